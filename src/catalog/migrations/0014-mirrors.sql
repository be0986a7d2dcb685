-- S3 mirrors. Secrets are not here: the secret key stays in the operator's file, the master key in the state folder.
CREATE TABLE mirrors (
  name TEXT PRIMARY KEY,
  mirror_id TEXT NOT NULL,
  -- what it is and how to reach it, as JSON; see mirrors.ts
  document TEXT NOT NULL,
  created_at TEXT NOT NULL
) STRICT;

-- What was seen in a mirror when it was looked at last: a cache of its manifests.
CREATE TABLE mirror_points (
  mirror TEXT NOT NULL REFERENCES mirrors (name) ON DELETE CASCADE,
  -- of one disk
  name TEXT NOT NULL,
  backup_id TEXT NOT NULL,
  vm_name TEXT NOT NULL,
  completed_at TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (mirror, name)
) STRICT;
-- What retention removed from a mirror: it is not uploaded again by itself.
CREATE TABLE mirror_pruned (
  mirror TEXT NOT NULL REFERENCES mirrors (name) ON DELETE CASCADE,
  backup_id TEXT NOT NULL,
  PRIMARY KEY (mirror, backup_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX mirror_points_by_backup ON mirror_points (mirror, backup_id);
