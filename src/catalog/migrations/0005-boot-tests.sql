-- The newest boot test of each restore point; the repository has all that are kept.
CREATE TABLE boot_tests (
  backup_id TEXT PRIMARY KEY REFERENCES backup_jobs (id) ON DELETE CASCADE,
  tested_at TEXT NOT NULL,
  -- passed or failed
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  -- serial, agent, screen, with a comma between several; empty for none
  met TEXT NOT NULL,
  took_ms INTEGER NOT NULL
) STRICT;
