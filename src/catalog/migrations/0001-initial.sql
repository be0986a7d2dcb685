-- Machines that are registered, or that a repository knows from earlier.
CREATE TABLE vm_contexts (
  context_id TEXT PRIMARY KEY,
  vm_uuid TEXT NOT NULL UNIQUE,
  vm_name TEXT NOT NULL UNIQUE,
  source_kind TEXT NOT NULL CHECK (source_kind IN ('image')),
  -- 0: only its backups are known; it cannot be backed up until it is added again
  registered INTEGER NOT NULL DEFAULT 1,
  before_command TEXT,
  after_command TEXT,
  allow_backing TEXT NOT NULL DEFAULT '[]',
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
) STRICT;

CREATE TABLE vm_disks (
  context_id TEXT NOT NULL REFERENCES vm_contexts (context_id) ON DELETE CASCADE,
  disk_index INTEGER NOT NULL,
  disk_key TEXT NOT NULL,
  format TEXT NOT NULL CHECK (format IN ('raw', 'qcow2')),
  -- 0: removed from the machine; the index stays taken, its old layers bear it
  active INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (context_id, disk_index),
  UNIQUE (context_id, disk_key)
) STRICT;

CREATE TABLE backup_repositories (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  repository_type TEXT NOT NULL CHECK (repository_type IN ('local')),
  config TEXT NOT NULL,
  enabled INTEGER NOT NULL DEFAULT 1,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
) STRICT;

-- Anything that takes time and can be watched and cancelled.
CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('backup', 'restore-disk')),
  status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
  phase TEXT,
  vm_name TEXT,
  backup_id TEXT,
  request TEXT NOT NULL,
  progress TEXT NOT NULL DEFAULT '{}',
  warnings TEXT NOT NULL DEFAULT '[]',
  error TEXT,
  created_at TEXT NOT NULL,
  started_at TEXT,
  finished_at TEXT
) STRICT;
CREATE INDEX jobs_by_status ON jobs (status, created_at);

-- The intent log: a row before each outside effect, a row after it.
CREATE TABLE job_steps (
  id INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  step TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('intent', 'fact')),
  detail TEXT NOT NULL,
  at TEXT NOT NULL
) STRICT;
CREATE INDEX job_steps_by_job ON job_steps (job_id, id);

-- One row per backup (restore point), published or attempted.
CREATE TABLE backup_jobs (
  id TEXT PRIMARY KEY,
  job_id TEXT NOT NULL,
  vm_context_id TEXT NOT NULL REFERENCES vm_contexts (context_id) ON DELETE CASCADE,
  vm_name TEXT NOT NULL,
  backup_type TEXT NOT NULL CHECK (backup_type IN ('full', 'incremental', 'differential')),
  status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
  repository_id TEXT NOT NULL REFERENCES backup_repositories (id),
  consistency TEXT NOT NULL DEFAULT 'crash',
  bytes_transferred INTEGER NOT NULL DEFAULT 0,
  total_bytes INTEGER NOT NULL DEFAULT 0,
  error TEXT,
  created_at TEXT NOT NULL,
  started_at TEXT,
  completed_at TEXT
) STRICT;
CREATE INDEX backup_jobs_by_vm ON backup_jobs (vm_context_id, created_at);

-- The layers of published backups.
CREATE TABLE backup_disks (
  backup_id TEXT NOT NULL REFERENCES backup_jobs (id) ON DELETE CASCADE,
  disk_index INTEGER NOT NULL,
  disk_key TEXT NOT NULL,
  backup_type TEXT NOT NULL CHECK (backup_type IN ('full', 'incremental', 'differential')),
  reason TEXT,
  layer TEXT NOT NULL,
  parent_layer TEXT,
  parent_backup_id TEXT,
  change_id TEXT,
  size_bytes INTEGER NOT NULL,
  written_bytes INTEGER NOT NULL,
  file_bytes INTEGER NOT NULL,
  -- why this layer cannot be trusted; descendants of a damaged layer are damaged too
  damage TEXT,
  -- size and mtime when the file was last known to be good
  fingerprint TEXT,
  PRIMARY KEY (backup_id, disk_index)
) STRICT;

CREATE TABLE backup_chains (
  id TEXT PRIMARY KEY,
  vm_context_id TEXT NOT NULL REFERENCES vm_contexts (context_id) ON DELETE CASCADE,
  repository_id TEXT NOT NULL REFERENCES backup_repositories (id),
  disk_id INTEGER NOT NULL,
  full_backup_id TEXT NOT NULL,
  latest_backup_id TEXT NOT NULL,
  total_backups INTEGER NOT NULL,
  total_size_bytes INTEGER NOT NULL,
  updated_at TEXT NOT NULL
) STRICT;

CREATE TABLE restore_mounts (
  mount_id TEXT PRIMARY KEY,
  backup_id TEXT NOT NULL,
  mount_path TEXT NOT NULL,
  created_at TEXT NOT NULL,
  closed_at TEXT,
  close_reason TEXT
) STRICT;

CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL,
  kind TEXT NOT NULL,
  severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
  subject TEXT,
  message TEXT NOT NULL,
  data TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE TABLE idempotency_keys (
  key TEXT PRIMARY KEY,
  request_digest TEXT NOT NULL,
  -- null while the first request is still running
  status INTEGER,
  body TEXT,
  created_at TEXT NOT NULL
) STRICT;
