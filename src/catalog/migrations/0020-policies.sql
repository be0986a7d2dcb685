-- What policies choose machines by, and why somebody left one without backups on purpose.
ALTER TABLE vm_contexts ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE vm_contexts ADD COLUMN unprotected TEXT;

-- What was due and who took it. Policies themselves are files: see docs/adr/0080.
CREATE TABLE policy_runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  policy TEXT NOT NULL,
  -- backup, prune, verify, mirror or boot-test
  kind TEXT NOT NULL,
  due_at TEXT NOT NULL,
  -- schedule, after-backup, systemd or operator
  started_by TEXT NOT NULL,
  -- due instants before this one that nobody ran
  missed INTEGER NOT NULL,
  claimed_at TEXT NOT NULL,
  finished_at TEXT,
  -- null while it goes on: completed, partly, failed, skipped or interrupted
  outcome TEXT,
  detail TEXT NOT NULL DEFAULT '',
  -- a due instant is taken once, whoever comes and however often
  UNIQUE (policy, kind, due_at)
) STRICT;
CREATE INDEX policy_runs_unfinished ON policy_runs (id) WHERE outcome IS NULL;

CREATE TABLE policy_run_tasks (
  run_id INTEGER NOT NULL REFERENCES policy_runs (id) ON DELETE CASCADE,
  -- not a reference: what was done is told also of a machine that has gone
  vm_context_id TEXT NOT NULL,
  vm_name TEXT NOT NULL,
  -- a mirror or a restore point, where one machine has several; else empty
  target TEXT NOT NULL,
  -- waiting, running, completed, failed or skipped
  status TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  job_id TEXT,
  detail TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (run_id, vm_context_id, target)
) STRICT, WITHOUT ROWID;

CREATE INDEX policy_run_tasks_failed ON policy_run_tasks (vm_context_id) WHERE status = 'failed';
CREATE INDEX policy_run_tasks_by_vm ON policy_run_tasks (vm_context_id, run_id);

-- When anything of a machine was last compared with its digests: to be asked of ten thousand machines at once.
CREATE TABLE vm_verified (
  vm_context_id TEXT PRIMARY KEY REFERENCES vm_contexts (context_id) ON DELETE CASCADE,
  verified_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO vm_verified (vm_context_id, verified_at)
  SELECT b.vm_context_id, MAX(d.verified_at) FROM backup_disks d JOIN backup_jobs b ON b.id = d.backup_id
   WHERE d.verified_at IS NOT NULL GROUP BY b.vm_context_id;
CREATE TRIGGER backup_disks_verified AFTER UPDATE OF verified_at ON backup_disks WHEN NEW.verified_at IS NOT NULL BEGIN
  INSERT INTO vm_verified (vm_context_id, verified_at) SELECT vm_context_id, NEW.verified_at FROM backup_jobs WHERE id = NEW.backup_id
    ON CONFLICT (vm_context_id) DO UPDATE SET verified_at = MAX(verified_at, excluded.verified_at);
END;
CREATE TRIGGER backup_disks_verified_new AFTER INSERT ON backup_disks WHEN NEW.verified_at IS NOT NULL BEGIN
  INSERT INTO vm_verified (vm_context_id, verified_at) SELECT vm_context_id, NEW.verified_at FROM backup_jobs WHERE id = NEW.backup_id
    ON CONFLICT (vm_context_id) DO UPDATE SET verified_at = MAX(verified_at, excluded.verified_at);
END;

-- When a machine's newest full was made that somebody asked for: also when retention has deleted it since, or merged
-- others into it.
CREATE TABLE vm_fulls (
  vm_context_id TEXT NOT NULL REFERENCES vm_contexts (context_id) ON DELETE CASCADE,
  repository_id TEXT NOT NULL REFERENCES backup_repositories (id) ON DELETE CASCADE,
  made_at TEXT NOT NULL,
  PRIMARY KEY (vm_context_id, repository_id)
) STRICT, WITHOUT ROWID;
INSERT INTO vm_fulls (vm_context_id, repository_id, made_at)
  SELECT vm_context_id, repository_id, MAX(created_at) FROM backup_jobs WHERE status = 'completed' AND backup_type = 'full'
   GROUP BY vm_context_id, repository_id;
CREATE TRIGGER backup_jobs_full AFTER UPDATE OF status ON backup_jobs WHEN NEW.status = 'completed' AND NEW.backup_type = 'full' BEGIN
  INSERT INTO vm_fulls (vm_context_id, repository_id, made_at) VALUES (NEW.vm_context_id, NEW.repository_id, NEW.created_at)
    ON CONFLICT (vm_context_id, repository_id) DO UPDATE SET made_at = MAX(made_at, excluded.made_at);
END;
CREATE TRIGGER backup_jobs_full_new AFTER INSERT ON backup_jobs WHEN NEW.status = 'completed' AND NEW.backup_type = 'full' BEGIN
  INSERT INTO vm_fulls (vm_context_id, repository_id, made_at) VALUES (NEW.vm_context_id, NEW.repository_id, NEW.created_at)
    ON CONFLICT (vm_context_id, repository_id) DO UPDATE SET made_at = MAX(made_at, excluded.made_at);
END;
