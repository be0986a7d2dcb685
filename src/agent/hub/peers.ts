import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Agent, AgentQueries } from '../../catalog/agents.ts';
import { keyFingerprint } from '../identity/certificates.ts';

/**
 * The connections of agents. gRPC's calls know only the address of the other end; here each address of a living
 * connection leads to the certificate that was shown on it, and so to the agent.
 */
export class Peers {
  readonly #agents: AgentQueries;
  readonly #sockets = new Map<string, TLSSocket>();

  constructor(agents: AgentQueries) {
    this.#agents = agents;
  }

  add(socket: TLSSocket): void {
    const peer = addressOf(socket);
    this.#sockets.set(peer, socket);
    socket.once('close', () => {
      if (this.#sockets.get(peer) === socket) this.#sockets.delete(peer);
    });
  }

  /**
   * Who speaks on a connection. The TLS handshake has proven that he owns the key of the certificate; which key is
   * whose is in the catalogue.
   * @param peer as gRPC's `getPeer` says it
   * @throws AGENT_REFUSED
   */
  identify(peer: string): Agent {
    const refuse = (detail: string) => new SendenseError('AGENT_REFUSED', { detail });
    const socket = this.#sockets.get(peer);
    if (!socket) throw refuse('its connection is gone');
    const { raw } = socket.getPeerCertificate();
    if (!raw) throw refuse('it shows no certificate; enrol it first');
    const agent = this.#agents.byKey(keyOf(raw));
    if (!agent) throw refuse('its key is not known here');
    if (agent.status !== 'approved') throw refuse(`the agent "${agent.name}" is ${agent.status}`);
    // only now: who was revoked and whose certificate has ended should hear the first
    if (!socket.authorized) throw refuse(whyNot(socket));
    return agent;
  }

  /** Ends every connection of an agent at once. */
  cut(agent: Agent): void {
    for (const socket of this.#sockets.values()) {
      const { raw } = socket.getPeerCertificate();
      if (raw && keyOf(raw) === agent.keyFingerprint) socket.destroy();
    }
  }

  cutAll(): void {
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  get count(): number {
    return this.#sockets.size;
  }
}

export const addressOf = (socket: TLSSocket): string => `${socket.remoteAddress}:${socket.remotePort}`;

const keyOf = (raw: Buffer): string =>
  keyFingerprint(new X509Certificate(raw).publicKey.export({ type: 'spki', format: 'der' }));

function whyNot(socket: TLSSocket): string {
  const why = String(socket.authorizationError);
  if (why.includes('EXPIRED'))
    return 'its certificate has ended; the agent was away for too long. Revoke it and enrol it anew';
  if (why.includes('NOT_YET_VALID')) return 'its certificate is not valid yet; compare the clocks';
  return `its certificate is not good (${why})`;
}
