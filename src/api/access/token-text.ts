import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** Says to people and to scanners of leaked secrets what it is. */
const PREFIX = 'sds';
const ID_BYTES = 6;
/** 256 random bits: nobody guesses them, so one round of SHA-256 is enough to keep; passwords would need a slow hash. */
const SECRET_BYTES = 32;

export const newTokenId = (): string => randomBytes(ID_BYTES).toString('hex');
export const newTokenSecret = (): string => randomBytes(SECRET_BYTES).toString('base64url');

/** What its owner keeps: `sds_<id>_<secret>`. */
export const tokenText = (tokenId: string, secret: string): string => `${PREFIX}_${tokenId}_${secret}`;

/** @returns null for what is no token at all */
export function readToken(text: string): { readonly tokenId: string; readonly secret: string } | null {
  const [, tokenId, secret] = /^sds_([0-9a-f]{12})_([A-Za-z0-9_-]{43})$/.exec(text) ?? [];
  return tokenId === undefined || secret === undefined ? null : { tokenId, secret };
}

/** What is stored of a secret, hex. */
export const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');

/** Takes the same time wherever they differ. @param hash of the right one, hex */
export const isSecret = (secret: string, hash: string): boolean =>
  timingSafeEqual(Buffer.from(hashOf(secret), 'hex'), Buffer.from(hash, 'hex'));
