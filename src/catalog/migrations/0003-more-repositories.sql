-- Jobs that could not clean up because their repository was away; a fact is added when it was done.
CREATE INDEX job_steps_left_behind ON job_steps (job_id, kind) WHERE step = 'left-behind';

-- The restore point of which this one is a copy; kept in its manifest too.
ALTER TABLE backup_jobs ADD COLUMN copied_from TEXT;

-- How much lay in a repository on each day.
CREATE TABLE repository_sizes (
  repository_id TEXT NOT NULL REFERENCES backup_repositories (id) ON DELETE CASCADE,
  -- as in 2026-11-20, UTC
  day TEXT NOT NULL,
  used_bytes INTEGER NOT NULL,
  -- 1: it was said on this day that it will soon be full
  warned INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (repository_id, day)
) STRICT;

-- A machine's list, newest first, over all repositories.
CREATE INDEX backup_jobs_by_vm_time ON backup_jobs (vm_context_id, created_at, id);
