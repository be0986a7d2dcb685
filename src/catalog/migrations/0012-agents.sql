-- Capture agents. An invitation is the hash of a secret that is good once; an agent is known by its public key.
CREATE TABLE agents (
  agent_id TEXT PRIMARY KEY,
  agent_name TEXT NOT NULL UNIQUE,
  -- pending, approved or revoked
  status TEXT NOT NULL,
  -- SHA-256 of the public key (SubjectPublicKeyInfo), hex
  key_fingerprint TEXT NOT NULL UNIQUE,
  -- SubjectPublicKeyInfo in base64
  public_key TEXT NOT NULL,
  ssh_public_key TEXT NOT NULL,
  host_name TEXT NOT NULL,
  version TEXT NOT NULL,
  -- local, ssh or tls
  data_way TEXT NOT NULL,
  -- bytes per second; 0: no limit
  rate_bytes INTEGER NOT NULL,
  -- JSON: [{from, to, rateBytes}], and the zone in which they are meant
  windows TEXT NOT NULL,
  time_zone TEXT NOT NULL,
  -- SHA-256 of what a waiting agent asks with
  result_hash TEXT NOT NULL,
  certificate_until TEXT,
  created_at TEXT NOT NULL,
  approved_at TEXT,
  revoked_at TEXT,
  last_seen_at TEXT
) STRICT;

CREATE TABLE agent_invites (
  secret_hash TEXT PRIMARY KEY,
  -- null: the agent says its name itself
  agent_name TEXT,
  auto_approve INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  expires_at TEXT NOT NULL,
  used_at TEXT
) STRICT;

-- Where the disks of a machine are; null: on this host.
ALTER TABLE vm_contexts ADD COLUMN agent_id TEXT REFERENCES agents (agent_id);
