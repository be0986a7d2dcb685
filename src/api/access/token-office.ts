import type { Actor } from '../../base/actor.ts';
import type { Clock } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { EventLog } from '../../catalog/events/events.ts';
import type { AccessToken, Role, TokenQueries } from '../../catalog/tokens.ts';
import type { OpenRequests } from './open-requests.ts';
import { hashOf, newTokenId, newTokenSecret, tokenText } from './token-text.ts';

interface OfficeDeps {
  readonly tokens: TokenQueries;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly open: OpenRequests;
}

export interface TokenOrder {
  readonly name: string;
  readonly role: Role;
  readonly vms: readonly string[];
  readonly labels: readonly (readonly [name: string, value: string])[];
  /** Seconds from now; null: never. */
  readonly expiresS: number | null;
}

/** A token with its secret, which is told this once. */
export interface IssuedToken {
  readonly token: AccessToken;
  readonly text: string;
}

/** Gives tokens out and takes them back. */
export class TokenOffice {
  readonly #deps: OfficeDeps;

  constructor(deps: OfficeDeps) {
    this.#deps = deps;
  }

  /** @throws TOKEN_UNKNOWN for one that does not exist or is revoked */
  find(name: string): AccessToken {
    const token = this.#deps.tokens.byName(name);
    if (token === null) throw new SendenseError('TOKEN_UNKNOWN', { token: name });
    return token;
  }

  /** @throws TOKEN_EXISTS, REQUEST_INVALID for an admin of some machines only */
  create(order: TokenOrder, by: Actor): IssuedToken {
    const { tokens, clock } = this.#deps;
    const { name, role, vms, labels } = order;
    if (tokens.byName(name) !== null) throw new SendenseError('TOKEN_EXISTS', { token: name });
    if (role === 'admin' && (vms.length > 0 || labels.length > 0))
      throw new SendenseError('REQUEST_INVALID', {
        detail: 'an admin is for the whole appliance; leave vms and labels out, or take the role operator',
      });
    const secret = newTokenSecret();
    const now = clock.now();
    const token: AccessToken = {
      ...{ tokenId: newTokenId(), name, role, vms, labels, secretHash: hashOf(secret) },
      ...{ createdBy: by.who, createdAt: now.toISOString(), rotatedAt: null, revokedAt: null },
      expiresAt: this.#expiry(order.expiresS, now),
      ...{ lastUsedAt: null, lastUsedFrom: null },
    };
    tokens.save(token);
    this.#say('token.created', `The token "${name}" was created with the role ${role}.`, token);
    return { token, text: tokenText(token.tokenId, secret) };
  }

  /** A new secret; the old one and everything that is open with it end at once. @throws TOKEN_UNKNOWN */
  rotate(name: string, expiresS: number | null): IssuedToken {
    const old = this.find(name);
    const secret = newTokenSecret();
    const now = this.#deps.clock.now();
    const token: AccessToken = {
      ...old,
      secretHash: hashOf(secret),
      rotatedAt: now.toISOString(),
      expiresAt: expiresS === null ? old.expiresAt : this.#expiry(expiresS, now),
    };
    this.#deps.tokens.save(token);
    this.#deps.open.cut(token.tokenId);
    this.#say('token.rotated', `The token "${name}" has a new secret.`, token);
    return { token, text: tokenText(token.tokenId, secret) };
  }

  /** It and everything that is open with it end at once. @throws TOKEN_UNKNOWN */
  revoke(name: string): AccessToken {
    const token = { ...this.find(name), revokedAt: this.#deps.clock.now().toISOString() };
    this.#deps.tokens.save(token);
    const cut = this.#deps.open.cut(token.tokenId);
    this.#say('token.revoked', `The token "${name}" is revoked; ${cut} open requests were cut.`, token);
    return token;
  }

  #expiry(expiresS: number | null, now: Date): string | null {
    return expiresS === null ? null : new Date(now.getTime() + expiresS * 1000).toISOString();
  }

  #say(kind: string, message: string, { name, tokenId, role, vms, labels, expiresAt }: AccessToken): void {
    this.#deps.events.add({
      ...{ kind, severity: 'info', subject: name, message },
      data: { token_id: tokenId, role, vms, labels, expires_at: expiresAt },
    });
  }
}
