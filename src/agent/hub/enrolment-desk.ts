import { randomBytes } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { vmNamePattern } from '../../base/ids.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Agent } from '../../catalog/agents.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Authority } from '../identity/authority.ts';
import { keyFingerprint, keyOfRequest } from '../identity/certificates.ts';
import { newSecret, pinOf, secretHash, writeCode } from '../identity/pairing-code.ts';
import { AttemptLimit } from './attempt-limit.ts';

/** How long a pairing code is good. */
const CODE_MS = 10 * 60_000;
/** So long an ended code is told apart from a wrong one. */
const REMEMBER_MS = 24 * 3600_000;
/** Agents that wait for an operator; more are somebody's joke. */
const MAX_PENDING = 32;

interface DeskDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly authority: Authority;
  readonly certificateMs: number;
  /** Told of agents that came, were taken, were refused. */
  readonly say: (kind: string, severity: 'info' | 'warning', agent: string, message: string) => void;
}

export interface EnrolOrder {
  readonly secret: string;
  readonly certificateRequest: string;
  readonly sshPublicKey: string;
  readonly name: string;
  readonly hostName: string;
  readonly version: string;
}

export interface EnrolOutcome {
  readonly status: 'pending' | 'approved' | 'rejected';
  readonly agentName: string;
  readonly enrolmentId: string;
  readonly resultToken: string;
  readonly certificate: string;
}

const sshKeyPattern = /^ssh-ed25519 [A-Za-z0-9+/]{60,100}={0,2}$/;
const refused = (detail: string) => new SendenseError('PAIRING_REFUSED', { detail });

/** Takes agents in: from the invitation to the certificate. */
export class EnrolmentDesk {
  readonly #deps: DeskDeps;
  readonly #limit = new AttemptLimit();

  constructor(deps: DeskDeps) {
    this.#deps = deps;
  }

  /** @param name null: the agent says it itself. @throws AGENT_EXISTS */
  invite(name: string | null, autoApprove: boolean): { code: string; expiresAt: Date } {
    const { catalog, clock, authority } = this.#deps;
    if (name !== null && catalog.agents.byName(name))
      throw new SendenseError('AGENT_EXISTS', { agent: name });
    const now = clock.now();
    catalog.agents.dropInvites(new Date(now.getTime() - REMEMBER_MS));
    const secret = newSecret();
    const expiresAt = new Date(now.getTime() + CODE_MS);
    catalog.agents.addInvite({
      ...{ secretHash: secretHash(secret), agentName: name, autoApprove, usedAt: null },
      ...{ createdAt: now.toISOString(), expiresAt: expiresAt.toISOString() },
    });
    return { code: writeCode({ pin: pinOf(authority.fingerprint), secret }), expiresAt };
  }

  /**
   * @param from address that wrong codes are counted for
   * @throws PAIRING_REFUSED, PAIRING_LIMITED, AGENT_EXISTS
   */
  async enrol(order: EnrolOrder, from: string): Promise<EnrolOutcome> {
    const { catalog, clock, say } = this.#deps;
    this.#limit.check(from, clock.now());
    const invite = catalog.agents.invite(secretHash(order.secret));
    if (!invite) {
      this.#limit.failed(from, clock.now());
      say('agent.refused', 'warning', from, `A wrong pairing code came from ${from}.`);
      throw refused('nobody was invited with it');
    }
    const now = clock.now();
    if (invite.usedAt !== null) throw refused('it was used already');
    if (now.toISOString() > invite.expiresAt) throw refused('its ten minutes are over');
    const name = invite.agentName ?? order.name;
    if (!vmNamePattern.test(name))
      throw refused('the agent needs a name of letters, digits, ".", "_" and "-"');
    if (!sshKeyPattern.test(order.sshPublicKey)) throw refused('the agent sent no Ed25519 key for ssh');
    const publicKey = await keyOfRequest(order.certificateRequest);
    if (publicKey === null) throw refused('the agent sent no P-256 key that it owns');
    const resultToken = randomBytes(24).toString('hex');
    const agent: Agent = {
      ...{ agentId: `agent-${randomBytes(6).toString('hex')}`, name, status: 'pending', publicKey },
      ...{ keyFingerprint: keyFingerprint(publicKey), sshPublicKey: order.sshPublicKey },
      ...{ hostName: order.hostName, version: order.version, dataWay: 'tls', rateBytes: 0, windows: [] },
      ...{ timeZone: 'UTC', resultHash: secretHash(resultToken), certificateUntil: null },
      ...{ createdAt: now.toISOString(), approvedAt: null, revokedAt: null, lastSeenAt: null },
    };
    catalog.transaction(() => {
      if (catalog.agents.byName(name)) throw new SendenseError('AGENT_EXISTS', { agent: name });
      if (catalog.agents.byKey(agent.keyFingerprint)) throw refused('its key is known here already');
      if (catalog.agents.all().filter(({ status }) => status === 'pending').length >= MAX_PENDING)
        throw refused(`${MAX_PENDING} agents wait for approval already`);
      if (!catalog.agents.useInvite(invite.secretHash, now)) throw refused('it was used already');
      catalog.agents.save(agent);
    });
    const sentence = `The agent "${name}" of the host ${order.hostName} with the key ${shortKey(agent)} came with a pairing code`;
    if (invite.autoApprove) {
      say('agent.enrolled', 'info', name, `${sentence} and is approved by it.`);
      this.approve(name);
    } else say('agent.pending', 'info', name, `${sentence} and waits for approval.`);
    return { ...(await this.#outcomeOf(agent.agentId)), resultToken };
  }

  /** What became of an agent that waits. @throws PAIRING_REFUSED */
  async result(enrolmentId: string, token: string): Promise<EnrolOutcome> {
    const agent = this.#deps.catalog.agents.byId(enrolmentId);
    // a rejected agent is forgotten
    if (!agent) return { status: 'rejected', agentName: '', enrolmentId, resultToken: '', certificate: '' };
    if (agent.resultHash !== secretHash(token)) throw refused('this is not who enrolled');
    if (agent.status === 'revoked') throw refused('the agent was revoked');
    return await this.#outcomeOf(enrolmentId);
  }

  /** @throws AGENT_UNKNOWN, AGENT_STATE */
  approve(name: string): Agent {
    const agent = this.#pending(name);
    const approved: Agent = {
      ...{ ...agent, status: 'approved' },
      approvedAt: this.#deps.clock.now().toISOString(),
    };
    this.#deps.catalog.agents.save(approved);
    return approved;
  }

  /** @throws AGENT_UNKNOWN, AGENT_STATE */
  reject(name: string): void {
    this.#deps.catalog.agents.remove(this.#pending(name).agentId);
    this.#deps.say('agent.rejected', 'info', name, `The agent "${name}" was rejected.`);
  }

  /** A new certificate for a key that is known. @throws AGENT_REFUSED */
  async renew(agent: Agent, certificateRequest: string): Promise<string> {
    const publicKey = await keyOfRequest(certificateRequest);
    if (publicKey !== agent.publicKey)
      throw new SendenseError('AGENT_REFUSED', { detail: 'it asks for a certificate of another key' });
    return await this.#sign(agent);
  }

  async #outcomeOf(agentId: string): Promise<EnrolOutcome> {
    const agent = this.#deps.catalog.agents.byId(agentId);
    if (!agent) throw refused('the agent is gone');
    const isApproved = agent.status === 'approved';
    return {
      ...{ status: isApproved ? 'approved' : 'pending', agentName: agent.name, enrolmentId: agentId },
      ...{ resultToken: '', certificate: isApproved ? await this.#sign(agent) : '' },
    };
  }

  async #sign(agent: Agent): Promise<string> {
    const { authority, catalog, certificateMs } = this.#deps;
    const { pem, until } = await authority.signAgent(agent.agentId, agent.publicKey, certificateMs);
    const newest = catalog.agents.byId(agent.agentId) ?? agent;
    catalog.agents.save({ ...newest, certificateUntil: until.toISOString() });
    return pem;
  }

  #pending(name: string): Agent {
    const agent = this.#deps.catalog.agents.byName(name);
    if (!agent) throw new SendenseError('AGENT_UNKNOWN', { agent: name });
    if (agent.status !== 'pending')
      throw new SendenseError('AGENT_STATE', { agent: name, status: agent.status, needed: 'pending' });
    return agent;
  }
}

/** What people compare on both sides: 64 bits of the key's digest. */
export const shortKey = (agent: Pick<Agent, 'keyFingerprint'>): string =>
  shortFingerprint(agent.keyFingerprint);
export const shortFingerprint = (fingerprint: string): string =>
  fingerprint.slice(0, 16).replace(/.{4}(?=.)/g, '$&-');
