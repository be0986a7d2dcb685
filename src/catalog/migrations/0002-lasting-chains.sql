-- Any kind of job: the list of kinds belongs to the code.
CREATE TABLE jobs_new (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
  phase TEXT,
  vm_name TEXT,
  backup_id TEXT,
  request TEXT NOT NULL,
  progress TEXT NOT NULL DEFAULT '{}',
  warnings TEXT NOT NULL DEFAULT '[]',
  -- what the job found or did, for kinds that have more to say than their status
  result TEXT,
  error TEXT,
  created_at TEXT NOT NULL,
  started_at TEXT,
  finished_at TEXT
) STRICT;
INSERT INTO jobs_new (id, kind, status, phase, vm_name, backup_id, request, progress, warnings, error, created_at, started_at, finished_at)
  SELECT id, kind, status, phase, vm_name, backup_id, request, progress, warnings, error, created_at, started_at, finished_at FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_new RENAME TO jobs;
CREATE INDEX jobs_by_status ON jobs (status, created_at);

-- What the last look at a layer's content found; kept beside the layer too.
ALTER TABLE backup_disks ADD COLUMN verified_at TEXT;
ALTER TABLE backup_disks ADD COLUMN verified_ok INTEGER;

-- Wishes that a restore point stays; kept beside its manifest too.
CREATE TABLE backup_pins (
  pin_id TEXT PRIMARY KEY,
  backup_id TEXT NOT NULL REFERENCES backup_jobs (id) ON DELETE CASCADE,
  reason TEXT NOT NULL,
  -- null: for ever
  until TEXT,
  created_at TEXT NOT NULL
) STRICT;
CREATE INDEX backup_pins_by_backup ON backup_pins (backup_id);

-- Deleted backups of which layers remain because others stand on them.
CREATE TABLE retired_backups (
  id TEXT PRIMARY KEY,
  vm_context_id TEXT NOT NULL REFERENCES vm_contexts (context_id) ON DELETE CASCADE,
  repository_id TEXT NOT NULL REFERENCES backup_repositories (id) ON DELETE CASCADE,
  completed_at TEXT NOT NULL,
  disks TEXT NOT NULL
) STRICT;
CREATE INDEX retired_backups_by_vm ON retired_backups (vm_context_id, repository_id);

-- What `prune plan` showed, so that `prune apply` does exactly that.
CREATE TABLE prune_plans (
  id TEXT PRIMARY KEY,
  created_at TEXT NOT NULL,
  request TEXT NOT NULL,
  digest TEXT NOT NULL,
  applied_at TEXT
) STRICT;

DROP INDEX backup_jobs_by_vm;
CREATE INDEX backup_jobs_by_vm ON backup_jobs (vm_context_id, repository_id, created_at, id);
CREATE INDEX backup_jobs_by_time ON backup_jobs (created_at, id);
CREATE INDEX backup_jobs_by_status ON backup_jobs (status, created_at, id);
CREATE INDEX backup_jobs_by_repository ON backup_jobs (repository_id, created_at, id);
