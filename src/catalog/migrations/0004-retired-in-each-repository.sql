-- Two repositories may hold what is left of the same deleted backup.
CREATE TABLE retired_backups_new (
  id TEXT NOT NULL,
  vm_context_id TEXT NOT NULL REFERENCES vm_contexts (context_id) ON DELETE CASCADE,
  repository_id TEXT NOT NULL REFERENCES backup_repositories (id) ON DELETE CASCADE,
  completed_at TEXT NOT NULL,
  disks TEXT NOT NULL,
  PRIMARY KEY (id, repository_id)
) STRICT;
INSERT INTO retired_backups_new (id, vm_context_id, repository_id, completed_at, disks)
  SELECT id, vm_context_id, repository_id, completed_at, disks FROM retired_backups;
DROP TABLE retired_backups;
ALTER TABLE retired_backups_new RENAME TO retired_backups;
CREATE INDEX retired_backups_by_vm ON retired_backups (vm_context_id, repository_id);
