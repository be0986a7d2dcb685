import type { Db } from './open/open-catalog.ts';

export type Role = 'viewer' | 'restore' | 'operator' | 'admin';

export interface AccessToken {
  readonly tokenId: string;
  readonly name: string;
  /** SHA-256 of the secret, hex. */
  readonly secretHash: string;
  readonly role: Role;
  /** Names of machines that it sees; with no labels either, it sees all. */
  readonly vms: readonly string[];
  /** It also sees machines that bear all of these. */
  readonly labels: readonly (readonly [name: string, value: string])[];
  readonly createdBy: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly rotatedAt: string | null;
  readonly revokedAt: string | null;
  readonly lastUsedAt: string | null;
  readonly lastUsedFrom: string | null;
}

interface TokenRow {
  token_id: string;
  name: string;
  secret_hash: string;
  role: Role;
  vms: string;
  labels: string;
  created_by: string;
  created_at: string;
  expires_at: string | null;
  rotated_at: string | null;
  revoked_at: string | null;
  last_used_at: string | null;
  last_used_from: string | null;
}

const toToken = (row: TokenRow): AccessToken => ({
  tokenId: row.token_id,
  name: row.name,
  secretHash: row.secret_hash,
  role: row.role,
  vms: JSON.parse(row.vms) as string[],
  labels: JSON.parse(row.labels) as [string, string][],
  createdBy: row.created_by,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  rotatedAt: row.rotated_at,
  revokedAt: row.revoked_at,
  lastUsedAt: row.last_used_at,
  lastUsedFrom: row.last_used_from,
});

/** Tokens of the API. Revoked ones stay, for who reads the audit later. */
export function tokenQueries(db: Db) {
  const byId = db.prepare<[string], TokenRow>('SELECT * FROM access_tokens WHERE token_id = ?');
  const byName = db.prepare<[string], TokenRow>(
    'SELECT * FROM access_tokens WHERE name = ? AND revoked_at IS NULL',
  );
  const all = db.prepare<[], TokenRow>('SELECT * FROM access_tokens ORDER BY name, created_at');
  const save = db.prepare(
    `INSERT INTO access_tokens (token_id, name, secret_hash, role, vms, labels, created_by, created_at, expires_at, rotated_at, revoked_at, last_used_at, last_used_from)
     VALUES (@tokenId, @name, @secretHash, @role, @vms, @labels, @createdBy, @createdAt, @expiresAt, @rotatedAt, @revokedAt, @lastUsedAt, @lastUsedFrom)
     ON CONFLICT (token_id) DO UPDATE SET secret_hash = @secretHash, expires_at = @expiresAt, rotated_at = @rotatedAt, revoked_at = @revokedAt`,
  );
  const used = db.prepare<[string, string, string]>(
    'UPDATE access_tokens SET last_used_at = ?, last_used_from = ? WHERE token_id = ?',
  );
  const one = (row: TokenRow | undefined): AccessToken | null => (row ? toToken(row) : null);
  return {
    byId: (tokenId: string): AccessToken | null => one(byId.get(tokenId)),
    /** The one of this name that is not revoked. */
    byName: (name: string): AccessToken | null => one(byName.get(name)),
    all: (): AccessToken[] => all.all().map(toToken),
    save: (token: AccessToken) =>
      save.run({ ...token, vms: JSON.stringify(token.vms), labels: JSON.stringify(token.labels) }),
    used: (tokenId: string, at: Date, from: string) => used.run(at.toISOString(), from, tokenId),
  };
}

export type TokenQueries = ReturnType<typeof tokenQueries>;
