-- Restore points of single disks that a verification found damaged, or that need something damaged. Nothing new is put
-- on top of them, and the next upload makes them anew.
CREATE TABLE mirror_damaged (
  mirror TEXT NOT NULL REFERENCES mirrors (name) ON DELETE CASCADE,
  point TEXT NOT NULL,
  PRIMARY KEY (mirror, point)
) STRICT, WITHOUT ROWID;

CREATE TABLE mirror_verified (
  mirror TEXT PRIMARY KEY REFERENCES mirrors (name) ON DELETE CASCADE,
  -- how often blocks were read: which part of them is next
  deep_runs INTEGER NOT NULL,
  -- of the last run that ended, ISO 8601, UTC
  at TEXT NOT NULL,
  problems INTEGER NOT NULL
) STRICT;
