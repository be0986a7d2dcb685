import type { Clock } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Agent, DataWay, RateWindow } from '../../catalog/agents.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { isTimeZone } from '../../policy/calendar/time-zone.ts';
import type { AnswerTo, Ask, Method } from '../protocol/calls.ts';
import type { AgentHub } from './agent-hub.ts';
import type { AgentListener } from './agent-listener.ts';
import type { EnrolmentDesk } from './enrolment-desk.ts';

export interface AgentChange {
  readonly dataWay?: DataWay | undefined;
  readonly rateBytes?: number | undefined;
  readonly windows?: readonly RateWindow[] | undefined;
  readonly timeZone?: string | undefined;
}

export interface AgentView extends Agent {
  readonly isConnected: boolean;
  /** Milliseconds by which its clock is ahead of ours; null while it is not connected. */
  readonly clockSkewMs: number | null;
  readonly machines: readonly string[];
}

export interface OfficeDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly hub: AgentHub;
  readonly desk: EnrolmentDesk;
  readonly listener: AgentListener;
  /** Why a data way cannot be used here; null when it can. */
  readonly wayObjection: (way: DataWay) => string | null;
  readonly say: (kind: string, severity: 'info' | 'warning', agent: string, message: string) => void;
}

/** What operators do with agents. */
export class AgentOffice {
  readonly #deps: OfficeDeps;

  constructor(deps: OfficeDeps) {
    this.#deps = deps;
  }

  get desk(): EnrolmentDesk {
    return this.#deps.desk;
  }

  get port(): number {
    return this.#deps.listener.port;
  }

  list(): AgentView[] {
    return this.#deps.catalog.agents.all().map((agent) => this.#view(agent));
  }

  /** @throws AGENT_UNKNOWN */
  show(name: string): AgentView {
    return this.#view(this.byName(name));
  }

  /** @throws AGENT_UNKNOWN */
  byName(name: string): Agent {
    const agent = this.#deps.catalog.agents.byName(name);
    if (!agent) throw new SendenseError('AGENT_UNKNOWN', { agent: name });
    return agent;
  }

  /** Takes effect at once, also for what is under way. @throws AGENT_UNKNOWN */
  revoke(name: string): AgentView {
    const { catalog, clock, hub, listener, say } = this.#deps;
    const agent = this.byName(name);
    if (agent.status !== 'revoked') {
      catalog.agents.save({ ...agent, status: 'revoked', revokedAt: clock.now().toISOString() });
      say('agent.revoked', 'warning', name, `The agent "${name}" was revoked.`);
    }
    hub.expel(agent);
    listener.cut(agent);
    return this.show(name);
  }

  /** Forgets a revoked agent, so that its name can be used again. @throws AGENT_UNKNOWN, AGENT_STATE */
  remove(name: string): void {
    const agent = this.byName(name);
    if (agent.status !== 'revoked')
      throw new SendenseError('AGENT_STATE', { agent: name, status: agent.status, needed: 'revoked' });
    const { machines } = this.#view(agent);
    if (machines.length > 0)
      throw new SendenseError('AGENT_STATE', {
        ...{ agent: name, status: `that of the machines ${machines.join(', ')}`, needed: 'without machines' },
      });
    this.#deps.catalog.agents.remove(agent.agentId);
  }

  /** @throws AGENT_UNKNOWN, DATA_WAY_OFF, REQUEST_INVALID */
  change(name: string, change: AgentChange): AgentView {
    const agent = this.byName(name);
    const { dataWay = agent.dataWay, timeZone = agent.timeZone } = change;
    const objection = this.#deps.wayObjection(dataWay);
    if (change.dataWay !== undefined && objection !== null)
      throw new SendenseError('DATA_WAY_OFF', { way: dataWay, detail: objection });
    if (!isTimeZone(timeZone))
      throw new SendenseError('REQUEST_INVALID', { detail: `${JSON.stringify(timeZone)} is no time zone` });
    this.#deps.catalog.agents.save({
      ...{ ...agent, dataWay, timeZone },
      rateBytes: change.rateBytes ?? agent.rateBytes,
      windows: change.windows ?? agent.windows,
    });
    this.#deps.hub.pushLimits();
    return this.show(name);
  }

  /** Asks a connected agent. @throws AGENT_UNKNOWN, AGENT_STATE, AGENT_OFFLINE, and what it answers */
  async ask<M extends Method>(name: string, method: M, body: Ask<M>): Promise<AnswerTo<M>> {
    const link = await this.#deps.hub.connected(this.byName(name).agentId, 0);
    return await link.call(method, body);
  }

  #view(agent: Agent): AgentView {
    const link = this.#deps.hub.link(agent.agentId);
    const machines = this.#deps.catalog.vms
      .all()
      .filter((vm) => vm.registered && vm.agentId === agent.agentId)
      .map(({ name }) => name);
    return { ...agent, isConnected: link !== null, clockSkewMs: link?.clockSkewMs ?? null, machines };
  }
}
