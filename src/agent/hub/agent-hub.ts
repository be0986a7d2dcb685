import { EventEmitter } from 'node:events';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { Agent } from '../../catalog/agents.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { type FromAgent, type Hello, packError, readFromAgent } from '../protocol/messages.ts';
import { agreeOn, ourProtocols } from '../protocol/versions.ts';
import type { TransferBoard } from '../transfers/transfer-board.ts';
import type { WantedSnapshots } from '../transfers/wanted-snapshots.ts';
import { AgentLink, type AgentStream } from './agent-link.ts';
import { rateAt } from './rate-at.ts';

/** Silence after which a connection is taken for dead; the agent says something every five seconds. */
const SILENCE_MS = 20_000;
const TICK_MS = 1_000;
/** Beyond this somebody should look at the clocks. */
const SKEW_MS = 60_000;

interface HubDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly version: string;
  readonly patienceMs: number;
  readonly board: TransferBoard;
  readonly snapshots: WantedSnapshots;
  readonly say: (kind: string, severity: 'info' | 'warning', agent: string, message: string) => void;
}

/** All agents that are connected. */
export class AgentHub implements AsyncDisposable {
  readonly #deps: HubDeps;
  readonly #links = new Map<string, AgentLink>();
  readonly #rates = new Map<string, number>();
  readonly #arrivals = new EventEmitter<{ arrived: [AgentLink]; left: [string] }>();
  readonly #timer: NodeJS.Timeout;

  constructor(deps: HubDeps) {
    this.#deps = deps;
    this.#arrivals.setMaxListeners(0);
    this.#timer = setInterval(() => this.pushLimits(), TICK_MS);
    this.#timer.unref();
  }

  /** The connection of an agent, or null while there is none. */
  link(agentId: string): AgentLink | null {
    return this.#links.get(agentId) ?? null;
  }

  /**
   * Waits until an agent is there.
   * @param patienceMs 0: it must be there now
   * @throws AGENT_OFFLINE, AGENT_STATE (revoked meanwhile), CANCELLED
   */
  async connected(agentId: string, patienceMs: number, signal?: AbortSignal): Promise<AgentLink> {
    const known = this.#deps.catalog.agents.byId(agentId);
    const name = known?.name ?? agentId;
    if (known?.status !== 'approved')
      throw new SendenseError('AGENT_STATE', {
        ...{ agent: name, status: known?.status ?? 'gone', needed: 'approved' },
      });
    const present = this.#links.get(agentId);
    if (present) return present;
    if (patienceMs === 0) throw new SendenseError('AGENT_OFFLINE', { agent: name });
    const { promise, resolve, reject } = Promise.withResolvers<AgentLink>();
    const arrived = (link: AgentLink) => {
      if (link.agent.agentId === agentId) resolve(link);
    };
    const left = (id: string) => {
      if (id === agentId)
        reject(new SendenseError('AGENT_STATE', { agent: name, status: 'revoked', needed: 'approved' }));
    };
    const timer = setTimeout(() => reject(new SendenseError('AGENT_OFFLINE', { agent: name })), patienceMs);
    const cancel = () => reject(new SendenseError('CANCELLED'));
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted) cancel();
    this.#arrivals.on('arrived', arrived).on('left', left);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      this.#arrivals.off('arrived', arrived).off('left', left);
    }
  }

  /** Serves one connection from its first message to its end. */
  serve(agent: Agent, stream: AgentStream): void {
    let link: AgentLink | null = null;
    const close = (why: SendenseError) => {
      clearTimeout(silence);
      if (link === null) stream.end();
      link?.close(why);
    };
    const offline = () => new SendenseError('AGENT_OFFLINE', { agent: agent.name });
    const silence = setTimeout(() => close(offline()), SILENCE_MS);
    stream.on('data', (raw: unknown) => {
      silence.refresh();
      try {
        const message = readFromAgent(agent.name, raw);
        if (link !== null) this.#received(link, message);
        else if (message.message === 'hello') link = this.#welcome(agent, stream, message.hello);
        else throw new SendenseError('AGENT_ANSWER_INVALID', { agent: agent.name, detail: 'no greeting' });
      } catch (error) {
        const failure = this.#failureOf(agent, error);
        if (link === null) {
          const { errorCode: code, errorFields: fields } = packError(failure);
          stream.write({ message: 'refused', refused: { code, fields } });
        }
        close(failure);
      }
    });
    stream.on('error', () => close(offline()));
    stream.on('end', () => close(offline()));
    stream.on('close', () => close(offline()));
    stream.on('cancelled', () => close(offline()));
  }

  #failureOf(agent: Agent, error: unknown): SendenseError {
    const failure =
      error instanceof SendenseError
        ? error
        : new SendenseError('AGENT_ANSWER_INVALID', { agent: agent.name, detail: messageOf(error) }, error);
    this.#deps.logger.warn({ agent: agent.name, error: failure.message }, 'an agent was cut off');
    this.#deps.say('agent.cut_off', 'warning', agent.name, failure.message);
    return failure;
  }

  #welcome(agent: Agent, stream: AgentStream, hello: Hello): AgentLink {
    const { board, catalog, clock, say, version } = this.#deps;
    const protocol = agreeOn(ourProtocols, { oldest: hello.oldestProtocol, newest: hello.newestProtocol });
    const now = clock.now();
    const theirs = Date.parse(hello.time);
    const clockSkewMs = Number.isNaN(theirs) ? 0 : theirs - now.getTime();
    const { transfers } = hello;
    const link = new AgentLink(stream, { agent, transfers, connectedAt: now, clockSkewMs });
    // an agent that came back before its old connection was known to be dead
    this.#links.get(agent.agentId)?.close(new SendenseError('AGENT_OFFLINE', { agent: agent.name }));
    this.#links.set(agent.agentId, link);
    this.#rates.delete(agent.agentId);
    catalog.agents.save({
      ...(catalog.agents.byId(agent.agentId) ?? agent),
      ...{ hostName: hello.hostName, version: hello.version, lastSeenAt: now.toISOString() },
    });
    link.onClosed = () => this.#gone(link);
    const wanted = transfers.flatMap((transferId) => {
      const rowsUntil = board.rowsUntil(transferId, agent.agentId);
      return rowsUntil === null ? [] : [{ transferId, rowsUntil }];
    });
    link.send({
      message: 'welcome',
      welcome: {
        ...{ protocol, version, agentName: agent.name, transfers: wanted },
        snapshots: this.#deps.snapshots.of(agent.agentId),
        patienceS: Math.round(this.#deps.patienceMs / 1000),
      },
    });
    say('agent.connected', 'info', agent.name, `The agent "${agent.name}" is connected.`);
    if (Math.abs(clockSkewMs) > SKEW_MS)
      say(
        ...(['agent.clock', 'warning', agent.name] as const),
        `The clock of the agent "${agent.name}" is ${Math.round(Math.abs(clockSkewMs) / 1000)} s ${clockSkewMs > 0 ? 'ahead of' : 'behind'} this one.`,
      );
    board.arrived(agent.agentId, link.transfers);
    this.#pushLimit(link);
    // whoever waits for it may ask at once, after the greeting
    queueMicrotask(() => this.#arrivals.emit('arrived', link));
    return link;
  }

  #received(link: AgentLink, message: FromAgent): void {
    const { board } = this.#deps;
    const { agentId } = link.agent;
    switch (message.message) {
      case 'answer':
        link.answered(message.answer);
        break;
      case 'progress':
        board.progress(agentId, message.progress);
        break;
      case 'rows': {
        const { transferId } = message.rows;
        board.rows(agentId, message.rows, (until) =>
          link.send({ message: 'rowsTaken', rowsTaken: { transferId, until } }),
        );
        break;
      }
      case 'ended':
        board.ended(agentId, message.ended);
        break;
      case 'heartbeat':
        link.send({ message: 'heartbeat', heartbeat: {} });
        break;
      case 'hello':
        throw new SendenseError('AGENT_ANSWER_INVALID', {
          agent: link.agent.name,
          detail: 'a second greeting',
        });
    }
  }

  #gone(link: AgentLink): void {
    const { agent } = link;
    // one that came again before its old connection was known to be dead is not gone
    if (this.#links.get(agent.agentId) !== link) return;
    this.#links.delete(agent.agentId);
    this.#deps.board.left(agent.agentId);
    const newest = this.#deps.catalog.agents.byId(agent.agentId);
    if (newest)
      this.#deps.catalog.agents.save({ ...newest, lastSeenAt: this.#deps.clock.now().toISOString() });
  }

  /** Ends the connection of an agent that was revoked, and the patience of everybody who waits for it. */
  expel(agent: Agent): void {
    this.#deps.board.expel(agent.agentId);
    this.#arrivals.emit('left', agent.agentId);
    this.#links
      .get(agent.agentId)
      ?.close(new SendenseError('AGENT_STATE', { agent: agent.name, status: 'revoked', needed: 'approved' }));
  }

  /** Tells agents what has changed of their limits; asked for by whoever changes one, it holds from then on. */
  pushLimits(): void {
    for (const link of this.#links.values()) this.#pushLimit(link);
  }

  /** Tells the agent its limit when it is another one than it heard on this connection. */
  #pushLimit(link: AgentLink): void {
    const { agentId } = link.agent;
    const agent = this.#deps.catalog.agents.byId(agentId);
    if (!agent) return;
    const bytesPerSecond = rateAt(agent, this.#deps.clock.now());
    if (this.#rates.get(agentId) === bytesPerSecond) return;
    this.#rates.set(agentId, bytesPerSecond);
    link.call('limit', { bytesPerSecond }).catch(() => this.#rates.delete(agentId));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    for (const link of this.#links.values()) link.close(new SendenseError('INTERRUPTED'));
  }
}
