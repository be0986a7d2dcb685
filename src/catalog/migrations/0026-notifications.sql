-- Who is told of events. Secrets stay in the operator's files.
CREATE TABLE notify_targets (
  name TEXT PRIMARY KEY,
  -- how to reach it, as JSON; see notifications.ts
  document TEXT NOT NULL,
  -- the last event of which it was decided whether this target is told
  seen_event_id INTEGER NOT NULL,
  created_at TEXT NOT NULL
) STRICT;

-- What is still to be told, and what was given up.
CREATE TABLE notify_outbox (
  delivery_id INTEGER PRIMARY KEY AUTOINCREMENT,
  target TEXT NOT NULL REFERENCES notify_targets (name) ON DELETE CASCADE,
  event_id INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  next_at TEXT NOT NULL,
  last_error TEXT,
  given_up_at TEXT,
  UNIQUE (target, event_id)
) STRICT;
CREATE INDEX notify_outbox_waiting ON notify_outbox (target, delivery_id) WHERE given_up_at IS NULL;
