import { SendenseError } from '../../base/sendense-error.ts';
import type { MoveProgress } from '../../nbd/mover/move-deps.ts';
import type { RowJournal } from '../../nbd/mover/rows/row-journal.ts';
import type { Row } from '../../nbd/mover/rows/rows.ts';
import {
  type EndedMessage,
  type ProgressMessage,
  type RowsMessage,
  unpackError,
  unpackRow,
} from '../protocol/messages.ts';

/** Stretches that wait to be written down; an agent that sends more without waiting is no agent of ours. */
const MAX_WAITING = 256;

export interface BoardOrder {
  readonly transferId: string;
  readonly agentId: string;
  readonly agentName: string;
  readonly journal: RowJournal;
  readonly sizeBytes: number;
  /** Row files of the layers below, newest first. */
  readonly parentRows: readonly string[];
  readonly onProgress: (progress: MoveProgress) => void;
  /** So long the agent may be away. */
  readonly patienceMs: number;
}

interface Posted {
  readonly order: BoardOrder;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  writing: Promise<void>;
  waiting: number;
  away: NodeJS.Timeout | undefined;
}

/** The transfers that agents do for this appliance just now. What an agent says of another one's is refused. */
export class TransferBoard {
  readonly #posted = new Map<string, Posted>();

  /** @returns ends with the transfer, however. @throws AGENT_LOST, AGENT_ANSWER_INVALID, what the agent failed with */
  post(order: BoardOrder): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#posted.set(order.transferId, {
      ...{ order, resolve, reject, writing: Promise.resolve(), waiting: 0, away: undefined },
    });
    // whoever posted it may be busy with something else when it fails
    promise.catch(() => undefined);
    return promise;
  }

  /** Nothing that the agent says of it counts from now on; what was begun is written down before it returns. */
  async remove(transferId: string): Promise<void> {
    const posted = this.#posted.get(transferId);
    if (!posted) return;
    this.#posted.delete(transferId);
    clearTimeout(posted.away);
    await posted.writing.catch(() => undefined);
  }

  /** Up to where the rows of a transfer are safe; null: nobody wants it from this agent. */
  rowsUntil(transferId: string, agentId: string): number | null {
    const posted = this.#posted.get(transferId);
    return posted?.order.agentId === agentId ? posted.order.journal.until : null;
  }

  /** @throws AGENT_REFUSED */
  parentRows(transferId: string, agentId: string): readonly string[] {
    const posted = this.#posted.get(transferId);
    if (posted?.order.agentId !== agentId)
      throw new SendenseError('AGENT_REFUSED', { detail: 'this transfer is not its own' });
    return posted.order.parentRows;
  }

  progress(agentId: string, message: ProgressMessage): void {
    const posted = this.#of(agentId, message.transferId);
    if (!posted) return;
    const { sizeBytes } = posted.order;
    // an agent that exaggerates must not make a job look done
    const within = (bytes: number) => Math.min(bytes, sizeBytes);
    posted.order.onProgress({
      processedBytes: within(message.processedBytes),
      readBytes: within(message.readBytes),
      writtenBytes: within(message.writtenBytes),
      reconnects: message.reconnects,
    });
  }

  /** @param taken told when they are on disk */
  rows(agentId: string, message: RowsMessage, taken: (until: number) => void): void {
    const posted = this.#of(agentId, message.transferId);
    if (!posted) return;
    const { agentName, journal } = posted.order;
    const rows = message.rows.map(unpackRow);
    if (rows.includes(null) || posted.waiting >= MAX_WAITING)
      throw new SendenseError('AGENT_ANSWER_INVALID', {
        agent: agentName,
        detail: rows.includes(null) ? 'a digest that is none' : 'more rows than were asked for',
      });
    posted.waiting += 1;
    posted.writing = posted.writing.then(async () => {
      await journal.append({ ...message, rows: rows as Row[] });
      posted.waiting -= 1;
      taken(journal.until);
    });
    posted.writing.catch(posted.reject);
  }

  ended(agentId: string, { transferId, errorCode, errorFields }: EndedMessage): void {
    const posted = this.#of(agentId, transferId);
    if (!posted) return;
    if (errorCode !== '') posted.reject(unpackError(errorCode, errorFields));
    else posted.writing.then(posted.resolve, posted.reject);
  }

  /** An agent is there, and says what it works on. */
  arrived(agentId: string, transfers: ReadonlySet<string>): void {
    for (const posted of this.#ofAgent(agentId)) {
      clearTimeout(posted.away);
      if (!transfers.has(posted.order.transferId))
        posted.reject(
          new SendenseError('AGENT_LOST', { agent: posted.order.agentName, detail: 'it was restarted' }),
        );
    }
  }

  left(agentId: string): void {
    for (const posted of this.#ofAgent(agentId)) {
      const { agentName, patienceMs } = posted.order;
      clearTimeout(posted.away);
      posted.away = setTimeout(
        () => posted.reject(new SendenseError('AGENT_OFFLINE', { agent: agentName })),
        patienceMs,
      );
    }
  }

  /** Ends what a revoked agent does. */
  expel(agentId: string): void {
    for (const { order, reject } of this.#ofAgent(agentId))
      reject(
        new SendenseError('AGENT_STATE', { agent: order.agentName, status: 'revoked', needed: 'approved' }),
      );
  }

  *#ofAgent(agentId: string): Iterable<Posted> {
    for (const posted of this.#posted.values()) if (posted.order.agentId === agentId) yield posted;
  }

  /** Null: of an attempt that is over. @throws AGENT_ANSWER_INVALID for another agent's */
  #of(agentId: string, transferId: string): Posted | null {
    const posted = this.#posted.get(transferId);
    if (!posted) return null;
    if (posted.order.agentId === agentId) return posted;
    throw new SendenseError('AGENT_ANSWER_INVALID', {
      ...{ agent: agentId, detail: 'it speaks of a transfer of another agent' },
    });
  }
}
