import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../base/logger.ts';
import { hasCode, SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import type { DiskAtAgent } from '../../capture/source.ts';
import type { AgentQueries } from '../../catalog/agents.ts';
import type { Carried, Carrier, CarryOrder } from '../../jobs/backup/carry/carrier.ts';
import { proveFilled } from '../../jobs/backup/carry/prove-filled.ts';
import type { JobContext } from '../../jobs/job-work.ts';
import { exportNameFor } from '../../nbd/exports/export-name.ts';
import { RowJournal } from '../../nbd/mover/rows/row-journal.ts';
import { writtenPart } from '../../repository/layers/written-part.ts';
import type { AgentExport, AgentExportOrder } from '../exports/agent-export.ts';
import type { AgentHub } from '../hub/agent-hub.ts';
import type { AgentLink } from '../hub/agent-link.ts';
import type { Ask } from '../protocol/calls.ts';

import { plainMachine } from './remote-source.ts';
import type { TransferBoard } from './transfer-board.ts';

/** Attempts in a row that bring nothing. */
const MAX_IDLE_ATTEMPTS = 5;
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 10_000;

export interface CarryDeps {
  readonly agents: AgentQueries;
  readonly board: TransferBoard;
  readonly hub: AgentHub;
  readonly logger: Logger;
  readonly patienceMs: number;
  readonly runFolder: string;
  readonly openExport: (order: AgentExportOrder) => Promise<AgentExport>;
}

/** What ends an attempt but not the transfer: something between here and there, or one of the two was restarted. */
const isPassing = (error: unknown): boolean =>
  hasCode(
    error,
    'AGENT_OFFLINE',
    'AGENT_LOST',
    'AGENT_SILENT',
    'APPLIANCE_UNREACHABLE',
    'EXPORT_LOST',
    'EXPORT_FAILED',
    'MOVER_DIED',
    'TUNNEL_FAILED',
  );

/** For machines at an agent: it pushes the bytes into an export that only it can reach, and tells the rows. */
export function carryFromAgent(deps: CarryDeps, agentId: string): Carrier {
  return async (order, context) => {
    const { files, disk, plan } = order;
    const agent = deps.agents.byId(agentId);
    if (!agent) throw new SendenseError('AGENT_UNKNOWN', { agent: agentId });
    const rules = {
      ...{ sizeBytes: disk.sizeBytes, isFull: plan.parent === null },
      invalid: (detail: string) => new SendenseError('AGENT_ANSWER_INVALID', { agent: agent.name, detail }),
    };
    await using journal = await RowJournal.open(files.journal, rules);
    const work = new Carrying(deps, agentId, order, context, journal);
    context.intent('transferred', { disk_index: order.diskIndex });
    const carried = await work.run();
    await journal.writeRows(files.partialRows);
    // nobody has to believe the agent
    await proveFilled(deps, order, context, rules.invalid);
    context.fact('transferred', { disk_index: order.diskIndex });
    return order.isBegun
      ? { ...carried, writtenBytes: (await writtenPart(files.partial, context.signal)).bytes }
      : carried;
  };
}

/** All attempts for one disk. */
class Carrying {
  readonly #deps: CarryDeps;
  readonly #agentId: string;
  readonly #order: CarryOrder;
  readonly #context: JobContext;
  readonly #journal: RowJournal;
  /** Bytes that attempts before this one wrote. */
  #written = 0;
  #writtenNow = 0;
  #openedId: string | null = null;

  constructor(deps: CarryDeps, agentId: string, order: CarryOrder, context: JobContext, journal: RowJournal) {
    this.#deps = deps;
    this.#agentId = agentId;
    this.#order = order;
    this.#context = context;
    this.#journal = journal;
  }

  async run(): Promise<Carried> {
    const { signal } = this.#context;
    let idle = 0;
    let pauseMs = FIRST_PAUSE_MS;
    for (let attempt = 1; ; attempt += 1) {
      const before = this.#journal.until;
      try {
        const exportName = await this.#attempt(attempt);
        return { exportName, writtenBytes: this.#written + this.#writtenNow };
      } catch (error) {
        if (signal.aborted) throw new SendenseError('CANCELLED', {}, error);
        idle = this.#journal.until > before ? 0 : idle + 1;
        if (!isPassing(error) || idle >= MAX_IDLE_ATTEMPTS) throw error;
        if (idle === 0) pauseMs = FIRST_PAUSE_MS;
        this.#deps.logger.warn(
          {
            job: this.#context.jobId,
            attempt,
            at: this.#journal.until,
            error: toSendenseError(error).message,
          },
          'a transfer of an agent broke; it goes on from the last flushed byte',
        );
        this.#context.warn(
          `Disk ${this.#order.diskIndex}: the transfer broke at byte ${this.#journal.until} and went on: ${toSendenseError(error).message}`,
        );
        this.#written += this.#writtenNow;
        this.#writtenNow = 0;
        await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
        pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS);
      }
    }
  }

  /** @returns the name of the export */
  async #attempt(attempt: number): Promise<string> {
    const { hub, agents, patienceMs, openExport } = this.#deps;
    const { disk, plan, diskIndex, files } = this.#order;
    const { signal } = this.#context;
    // away for longer than anybody waits: the end, whatever was reached
    const link = await hub.connected(this.#agentId, patienceMs, signal).catch((error: unknown) => {
      if (!hasCode(error, 'AGENT_OFFLINE')) throw error;
      throw new SendenseError(
        'SNAPSHOT_LOST',
        { path: disk.key, detail: `its agent was away for more than ${patienceMs / 1000} s` },
        error,
      );
    });
    const agent = agents.byId(this.#agentId) ?? link.agent;
    const parents = plan.parent?.layers ?? [];
    const exportName = exportNameFor({
      ...{ contextId: this.#order.contextId, diskIndex, type: plan.type, attempt },
      startedAt: this.#order.exportTime,
    });
    const replayUntil =
      attempt === 1 && this.#journal.until === 0 ? 0 : (await writtenPart(files.partial, signal)).end;
    const id = randomBytes(5).toString('hex');
    this.#context.intent('export-opened', { disk_index: diskIndex, export: exportName });
    const opened = await openExport({
      ...{ agent, id },
      layer: {
        ...{ path: files.partial, parents: parents.map(({ image }) => image) },
        ...{ sizeBytes: disk.sizeBytes, exportName },
      },
    });
    this.#context.fact('export-opened', { disk_index: diskIndex, export: exportName });
    try {
      await this.#transfer(link, opened, { from: this.#journal.until, replayUntil });
      return exportName;
    } finally {
      this.#context.intent('export-closed', { disk_index: diskIndex });
      await opened[Symbol.asyncDispose]();
      this.#context.fact('export-closed', { disk_index: diskIndex });
    }
  }

  async #transfer(
    link: AgentLink,
    opened: AgentExport,
    resume: { from: number; replayUntil: number },
  ): Promise<void> {
    const { board, patienceMs } = this.#deps;
    const { disk, plan, onProgress } = this.#order;
    const { signal } = this.#context;
    const parents = plan.parent?.layers ?? [];
    const transferId = `transfer-${randomBytes(8).toString('hex')}`;
    const ended = board.post({
      ...{ transferId, agentId: this.#agentId, agentName: link.agent.name, patienceMs },
      ...{ journal: this.#journal, sizeBytes: disk.sizeBytes, parentRows: parents.map(({ rows }) => rows) },
      onProgress: (progress) => {
        this.#writtenNow = progress.writtenBytes;
        onProgress({ ...progress, writtenBytes: this.#written + progress.writtenBytes });
      },
    });
    const { promise: cancelled, reject } = Promise.withResolvers<never>();
    const cancel = () => reject(new SendenseError('CANCELLED'));
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      await Promise.race([
        cancelled,
        (async () => {
          await this.#start(link, {
            ...{ transferId, sizeBytes: disk.sizeBytes, tuning: opened.tuning, resume },
            export: { name: opened.exportName, way: opened.way, tls: opened.tls },
            parent:
              parents[0] === undefined
                ? null
                : {
                    layers: parents.map(({ layer }) => layer),
                    sizeBytes: parents[0].sidecar.virtual_size_bytes,
                  },
          });
          await ended;
        })(),
      ]);
    } finally {
      signal.removeEventListener('abort', cancel);
      cancelled.catch(() => undefined);
      await board.remove(transferId);
      // it may be gone, or be another connection by now; what nobody wants it ends by itself
      const now = this.#deps.hub.link(this.#agentId);
      await now?.call('stop', { transferId }).catch(() => undefined);
    }
  }

  /** Starts it; an agent that was restarted opens the disk again if it is still the same. @throws SNAPSHOT_LOST */
  async #start(link: AgentLink, ask: Omit<Ask<'transfer'>, 'openedId'>): Promise<void> {
    const source = this.#order.source as DiskAtAgent;
    this.#openedId ??= source.openedId;
    try {
      await link.call('transfer', { ...ask, openedId: this.#openedId });
    } catch (error) {
      const { identity, snapshotId } = source;
      if (!hasCode(error, 'SNAPSHOT_LOST') || identity === null) throw error;
      const { disk, machine } = this.#order;
      const again = { snapshotId, machine: plainMachine(machine), key: disk.key, identity };
      this.#openedId = (await link.call('reopen', again)).openedId;
      await link.call('transfer', { ...ask, openedId: this.#openedId });
    }
  }
}
