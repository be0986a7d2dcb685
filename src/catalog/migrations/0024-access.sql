-- Who may use the API over TCP. Of a secret only its SHA-256 is here.
CREATE TABLE access_tokens (
  token_id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  secret_hash TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('viewer', 'restore', 'operator', 'admin')),
  -- JSON: names of machines, and [name, value] of labels; both empty: all machines
  vms TEXT NOT NULL,
  labels TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at TEXT NOT NULL,
  -- null: never
  expires_at TEXT,
  rotated_at TEXT,
  revoked_at TEXT,
  last_used_at TEXT,
  last_used_from TEXT
) STRICT;
CREATE UNIQUE INDEX access_tokens_in_use ON access_tokens (name) WHERE revoked_at IS NULL;

-- On whose behalf it happened and from where; null: the appliance itself. And a chain of hashes over all rows.
ALTER TABLE events ADD COLUMN actor TEXT;
ALTER TABLE events ADD COLUMN origin TEXT;
ALTER TABLE events ADD COLUMN hash TEXT;

-- Whose a mounted restore point of a mirror is.
CREATE INDEX mirror_points_by_backup_alone ON mirror_points (backup_id);
