-- The few restore points that are not good: looked for at each scrape of the metrics.
CREATE INDEX backup_disks_bad ON backup_disks (backup_id) WHERE damage IS NOT NULL OR verified_ok = 0;
