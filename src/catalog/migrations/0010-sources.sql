-- Machines of any source: which kinds there are belongs to the code.
CREATE TABLE vm_contexts_new (
  context_id TEXT PRIMARY KEY,
  vm_uuid TEXT NOT NULL UNIQUE,
  vm_name TEXT NOT NULL UNIQUE,
  -- where it is found: an object with `kind`
  source TEXT NOT NULL,
  -- 0: only its backups are known; it cannot be backed up until it is added again
  registered INTEGER NOT NULL DEFAULT 1,
  before_command TEXT,
  after_command TEXT,
  allow_backing TEXT NOT NULL DEFAULT '[]',
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
) STRICT;
INSERT INTO vm_contexts_new (context_id, vm_uuid, vm_name, source, registered, before_command, after_command, allow_backing, created_at, updated_at)
  SELECT context_id, vm_uuid, vm_name, json_object('kind', source_kind), registered, before_command, after_command, allow_backing, created_at, updated_at FROM vm_contexts;
DROP TABLE vm_contexts;
ALTER TABLE vm_contexts_new RENAME TO vm_contexts;
