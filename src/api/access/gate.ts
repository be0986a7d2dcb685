import type { Socket } from 'node:net';
import type { Request, Response } from 'express';
import type { Clock } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { AccessToken, TokenQueries } from '../../catalog/tokens.ts';
import { type Caller, isFor, isScopedToken, type LabelsOf } from './caller.ts';
import { confirmPlace } from './confirm-place.ts';
import type { FailureLimit } from './failure-limit.ts';
import type { OpenRequests } from './open-requests.ts';
import { isSecret, readToken } from './token-text.ts';

/** How exactly the last use of a token is known: each request would be a write otherwise. */
const LAST_USED_MS = 60_000;

export interface GateDeps {
  readonly tokens: TokenQueries;
  readonly clock: Clock;
  readonly limit: FailureLimit;
  readonly open: OpenRequests;
  readonly labelsOf: LabelsOf;
  /** Where callers below admin may have the appliance write. */
  readonly restoreFolders: readonly string[];
  /** Users that hold the other end of a unix socket. */
  readonly usersOf: (socket: Socket) => Promise<readonly number[]>;
  /** A wrong token came; told while the address is not limited yet. */
  readonly onRefused: (from: string, tokenId: string | null) => void;
}

/** Lets requests in: over the unix socket everybody who can open it, over TCP who has a token. */
export class Gate {
  readonly #deps: GateDeps;
  /** Connections of the unix socket. Anything that is not known to be one needs a token. */
  readonly #local = new WeakSet<Socket>();
  readonly #users = new WeakMap<Socket, Promise<readonly number[]>>();

  constructor(deps: GateDeps) {
    this.#deps = deps;
  }

  /** A connection that was made over the unix socket. */
  isLocal(socket: Socket): void {
    this.#local.add(socket);
  }

  /** @throws TOKEN_NEEDED, TOKEN_REFUSED, TOKEN_LIMITED */
  async admit(request: Request, response: Response): Promise<Caller> {
    if (this.#local.has(request.socket)) return await this.#localCaller(request);
    const { clock, open, tokens } = this.#deps;
    const from = request.socket.remoteAddress ?? 'unknown';
    const token = this.#tokenOf(request, response, from);
    open.add(token, response, clock.now());
    const lastUsedMs = token.lastUsedAt === null ? 0 : Date.parse(token.lastUsedAt);
    if (clock.now().getTime() - lastUsedMs >= LAST_USED_MS || token.lastUsedFrom !== from)
      tokens.used(token.tokenId, clock.now(), from);
    const who = `token ${token.name}`;
    const isScoped = isScopedToken(token);
    return {
      ...{ id: token.tokenId, who, from, role: token.role, token, isScoped },
      sees: (vmName) => !isScoped || (vmName !== null && isFor(token, vmName, this.#deps.labelsOf)),
      confirmPlace: async (path) => {
        if (token.role === 'admin' || path === null || path === undefined) return;
        await confirmPlace(path, this.#deps.restoreFolders, who);
      },
    };
  }

  async #localCaller(request: Request): Promise<Caller> {
    return {
      ...{ id: 'socket', who: await this.#whoOf(request), from: 'socket', role: 'admin', token: null },
      isScoped: false,
      sees: () => true,
      confirmPlace: async () => {},
    };
  }

  /** Finding it out starts a program: only for what the audit wants to know. */
  async #whoOf({ method, path, socket }: Request): Promise<string> {
    if ((method === 'GET' || method === 'HEAD') && !path.endsWith('/download')) return 'socket';
    const { usersOf } = this.#deps;
    const users = this.#users.get(socket) ?? usersOf(socket).catch(() => []);
    this.#users.set(socket, users);
    const uids = [...new Set(await users)].sort((a, b) => a - b);
    return uids.length === 0 ? 'socket' : `uid ${uids.join(',')}`;
  }

  #tokenOf(request: Request, response: Response, from: string): AccessToken {
    const { clock, limit, onRefused, tokens } = this.#deps;
    const now = clock.now();
    const seconds = limit.waitSeconds(from, now);
    if (seconds > 0) {
      response.set('Retry-After', String(seconds));
      throw new SendenseError('TOKEN_LIMITED', { from, seconds });
    }
    response.set('WWW-Authenticate', 'Bearer realm="sendense"');
    const header = request.get('Authorization');
    if (header === undefined)
      throw new SendenseError('TOKEN_NEEDED', { detail: 'the request has no header Authorization' });
    const given = readToken(/^Bearer +(\S+)$/i.exec(header)?.[1] ?? '');
    const token = given === null ? null : tokens.byId(given.tokenId);
    const isGood =
      given !== null &&
      token !== null &&
      isSecret(given.secret, token.secretHash) &&
      token.revokedAt === null &&
      (token.expiresAt === null || Date.parse(token.expiresAt) > now.getTime());
    if (!isGood) {
      limit.failed(from, now);
      onRefused(from, token?.tokenId ?? null);
      throw new SendenseError('TOKEN_REFUSED');
    }
    response.removeHeader('WWW-Authenticate');
    return token;
  }
}
