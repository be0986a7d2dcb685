import type { Db } from './open/open-catalog.ts';

export type DataWay = 'local' | 'ssh' | 'tls';
export type AgentStatus = 'pending' | 'approved' | 'revoked';

/** A part of the day with another rate; `HH:MM`, and `to` may lie after midnight. */
export interface RateWindow {
  readonly from: string;
  readonly to: string;
  /** Bytes per second; 0: no limit. */
  readonly rateBytes: number;
}

export interface Agent {
  readonly agentId: string;
  readonly name: string;
  readonly status: AgentStatus;
  readonly keyFingerprint: string;
  readonly publicKey: string;
  readonly sshPublicKey: string;
  readonly hostName: string;
  readonly version: string;
  readonly dataWay: DataWay;
  /** Bytes per second; 0: no limit. */
  readonly rateBytes: number;
  readonly windows: readonly RateWindow[];
  readonly timeZone: string;
  readonly resultHash: string;
  readonly certificateUntil: string | null;
  readonly createdAt: string;
  readonly approvedAt: string | null;
  readonly revokedAt: string | null;
  readonly lastSeenAt: string | null;
}

export interface Invite {
  readonly secretHash: string;
  readonly agentName: string | null;
  readonly autoApprove: boolean;
  readonly createdAt: string;
  readonly expiresAt: string;
  readonly usedAt: string | null;
}

interface AgentRow {
  agent_id: string;
  agent_name: string;
  status: AgentStatus;
  key_fingerprint: string;
  public_key: string;
  ssh_public_key: string;
  host_name: string;
  version: string;
  data_way: DataWay;
  rate_bytes: number;
  windows: string;
  time_zone: string;
  result_hash: string;
  certificate_until: string | null;
  created_at: string;
  approved_at: string | null;
  revoked_at: string | null;
  last_seen_at: string | null;
}

interface InviteRow {
  secret_hash: string;
  agent_name: string | null;
  auto_approve: number;
  created_at: string;
  expires_at: string;
  used_at: string | null;
}

const toAgent = (row: AgentRow): Agent => ({
  agentId: row.agent_id,
  name: row.agent_name,
  status: row.status,
  keyFingerprint: row.key_fingerprint,
  publicKey: row.public_key,
  sshPublicKey: row.ssh_public_key,
  hostName: row.host_name,
  version: row.version,
  dataWay: row.data_way,
  rateBytes: row.rate_bytes,
  windows: JSON.parse(row.windows) as RateWindow[],
  timeZone: row.time_zone,
  resultHash: row.result_hash,
  certificateUntil: row.certificate_until,
  createdAt: row.created_at,
  approvedAt: row.approved_at,
  revokedAt: row.revoked_at,
  lastSeenAt: row.last_seen_at,
});

const toInvite = (row: InviteRow): Invite => ({
  secretHash: row.secret_hash,
  agentName: row.agent_name,
  autoApprove: row.auto_approve === 1,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  usedAt: row.used_at,
});

export function agentQueries(db: Db) {
  const all = db.prepare<[], AgentRow>('SELECT * FROM agents ORDER BY agent_name');
  const by = (column: 'agent_id' | 'agent_name' | 'key_fingerprint') => {
    const statement = db.prepare<[string], AgentRow>(`SELECT * FROM agents WHERE ${column} = ?`);
    return (value: string): Agent | null => {
      const row = statement.get(value);
      return row ? toAgent(row) : null;
    };
  };
  const save = db.prepare(
    `INSERT INTO agents VALUES (@agentId, @name, @status, @keyFingerprint, @publicKey, @sshPublicKey, @hostName, @version,
       @dataWay, @rateBytes, @windows, @timeZone, @resultHash, @certificateUntil, @createdAt, @approvedAt, @revokedAt, @lastSeenAt)
     ON CONFLICT (agent_id) DO UPDATE SET agent_name = @name, status = @status, host_name = @hostName, version = @version,
       data_way = @dataWay, rate_bytes = @rateBytes, windows = @windows, time_zone = @timeZone, result_hash = @resultHash,
       certificate_until = @certificateUntil, approved_at = @approvedAt, revoked_at = @revokedAt, last_seen_at = @lastSeenAt`,
  );
  const remove = db.prepare<[string]>('DELETE FROM agents WHERE agent_id = ?');
  const addInvite = db.prepare(
    'INSERT INTO agent_invites VALUES (@secretHash, @agentName, @autoApprove, @createdAt, @expiresAt, @usedAt)',
  );
  const invite = db.prepare<[string], InviteRow>('SELECT * FROM agent_invites WHERE secret_hash = ?');
  const useInvite = db.prepare<[string, string]>(
    'UPDATE agent_invites SET used_at = ? WHERE secret_hash = ? AND used_at IS NULL',
  );
  const dropInvites = db.prepare<[string]>('DELETE FROM agent_invites WHERE expires_at < ?');
  return {
    all: (): Agent[] => all.all().map(toAgent),
    byId: by('agent_id'),
    byName: by('agent_name'),
    byKey: by('key_fingerprint'),
    save: (agent: Agent) => save.run({ ...agent, windows: JSON.stringify(agent.windows) }),
    remove: (agentId: string) => remove.run(agentId),
    addInvite: (added: Invite) => addInvite.run({ ...added, autoApprove: added.autoApprove ? 1 : 0 }),
    invite: (secretHash: string): Invite | null => {
      const row = invite.get(secretHash);
      return row ? toInvite(row) : null;
    },
    /** False when somebody was quicker. */
    useInvite: (secretHash: string, now: Date): boolean =>
      useInvite.run(now.toISOString(), secretHash).changes === 1,
    /** Forgets those that ended before; until then they are told apart from wrong ones. */
    dropInvites: (endedBefore: Date) => dropInvites.run(endedBefore.toISOString()),
  };
}

export type AgentQueries = ReturnType<typeof agentQueries>;
