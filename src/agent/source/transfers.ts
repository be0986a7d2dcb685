import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { type SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import type { MoveProgress } from '../../nbd/mover/move-deps.ts';
import type { RowBatch } from '../../nbd/mover/rows/row-batches.ts';
import type { Ask } from '../protocol/calls.ts';
import { type FromAgent, packError, packRow, type Welcome } from '../protocol/messages.ts';
import { runTransfer, type TransferDeps } from './run-transfer.ts';
import type { Snapshots } from './snapshots.ts';

/** Batches that the appliance has not taken yet; beyond, the transfer waits. Some MiB of memory. */
const MAX_BATCHES = 64;
const PROGRESS_MS = 1_000;

interface Running {
  readonly order: Ask<'transfer'>;
  readonly stop: AbortController;
  readonly done: Promise<void>;
  progress: MoveProgress;
  /** In order, not yet taken. */
  batches: RowBatch[];
  wake: (() => void) | null;
  setLimit: ((bytesPerSecond: number) => void) | null;
  ended: { readonly error: SendenseError | null } | null;
}

interface TransfersDeps extends Pick<TransferDeps, 'moverFile' | 'host' | 'key' | 'sshKeyFile'> {
  readonly logger: Logger;
  readonly runFolder: string;
  readonly snapshots: Snapshots;
  readonly parentRows: (transferId: string) => AsyncIterable<{ file: number; bytes: Buffer }>;
}

/** The transfers of this agent. They outlive a connection: what was not taken is said again on the next one. */
export class Transfers implements AsyncDisposable {
  readonly #deps: TransfersDeps;
  readonly #running = new Map<string, Running>();
  readonly #timer: NodeJS.Timeout;
  #send: ((message: FromAgent) => void) | null = null;
  #bytesPerSecond = 0;

  constructor(deps: TransfersDeps) {
    this.#deps = deps;
    this.#timer = setInterval(() => this.#tellProgress(), PROGRESS_MS);
  }

  get ids(): string[] {
    return [...this.#running.keys()];
  }

  /** @throws SNAPSHOT_LOST. Asked again with the same id, it goes on as it is. */
  start(order: Ask<'transfer'>): void {
    if (this.#running.has(order.transferId)) return;
    const opened = this.#deps.snapshots.opened(order.openedId);
    const stop = new AbortController();
    const running: Running = {
      ...{ order, stop, batches: [], wake: null, setLimit: null, ended: null },
      progress: { processedBytes: order.resume.from, readBytes: 0, writtenBytes: 0, reconnects: 0 },
      done: Promise.resolve(),
    };
    this.#running.set(order.transferId, running);
    const done = runTransfer(order, opened, {
      ...this.#deps,
      folder: join(this.#deps.runFolder, order.transferId),
      parentRows: () => this.#deps.parentRows(order.transferId),
      onProgress: (progress) => {
        running.progress = progress;
      },
      onRows: (batch) => this.#queue(running, batch),
      onLimiter: (setLimit) => {
        running.setLimit = setLimit;
        this.#shareLimit();
      },
      signal: stop.signal,
    }).then(
      () => this.#end(running, null),
      (error: unknown) => this.#end(running, toSendenseError(error)),
    );
    Object.assign(running, { done });
  }

  /** Ends it and forgets it. Repeating it is fine. */
  async stop(transferId: string): Promise<void> {
    const running = this.#running.get(transferId);
    if (!running) return;
    this.#running.delete(transferId);
    running.stop.abort();
    running.wake?.();
    await running.done;
    this.#shareLimit();
  }

  limit(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#shareLimit();
  }

  /** A connection is there: what the appliance does not want any more ends, of the rest it hears what it missed. */
  async attach(send: (message: FromAgent) => void, wanted: Welcome['transfers']): Promise<void> {
    for (const transferId of this.ids)
      if (!wanted.some((held) => held.transferId === transferId)) await this.stop(transferId);
    for (const { transferId, rowsUntil } of wanted) this.taken(transferId, rowsUntil);
    this.#send = send;
    // also those that were asked for while the others ended: what they had to say went nowhere until now
    for (const running of this.#running.values()) {
      for (const batch of running.batches) this.#sendRows(running, batch);
      this.#tellEnd(running);
    }
  }

  detach(): void {
    this.#send = null;
  }

  taken(transferId: string, until: number): void {
    const running = this.#running.get(transferId);
    if (!running) return;
    running.batches = running.batches.filter((batch) => batch.until > until);
    if (running.batches.length < MAX_BATCHES) running.wake?.();
    this.#tellEnd(running);
  }

  async #queue(running: Running, batch: RowBatch): Promise<void> {
    running.batches.push(batch);
    this.#sendRows(running, batch);
    while (running.batches.length >= MAX_BATCHES && !running.stop.signal.aborted)
      await new Promise<void>((resolve) => {
        running.wake = resolve;
      });
  }

  #sendRows({ order }: Running, { from, until, rows }: RowBatch): void {
    this.#send?.({
      message: 'rows',
      rows: { transferId: order.transferId, from, until, rows: rows.map(packRow) },
    });
  }

  #end(running: Running, error: SendenseError | null): void {
    if (error !== null && !running.stop.signal.aborted)
      this.#deps.logger.warn(
        { transfer: running.order.transferId, error: error.message },
        'a transfer failed',
      );
    running.ended = { error };
    running.setLimit = null;
    this.#tellEnd(running);
    this.#shareLimit();
  }

  /** Success counts only once all its rows are safe at the appliance. */
  #tellEnd(running: Running): void {
    const { order, ended, batches } = running;
    if (ended === null || (ended.error === null && batches.length > 0)) return;
    this.#sendProgress(running);
    const error = ended.error === null ? { errorCode: '', errorFields: '' } : packError(ended.error);
    this.#send?.({ message: 'ended', ended: { transferId: order.transferId, ...error } });
  }

  #tellProgress(): void {
    for (const running of this.#running.values()) if (running.ended === null) this.#sendProgress(running);
  }

  #sendProgress({ order, progress }: Running): void {
    const { processedBytes, readBytes, writtenBytes, reconnects } = progress;
    this.#send?.({
      message: 'progress',
      progress: { transferId: order.transferId, processedBytes, readBytes, writtenBytes, reconnects },
    });
  }

  /** The limit is of the agent: transfers share it. */
  #shareLimit(): void {
    const active = [...this.#running.values()].filter(({ setLimit }) => setLimit !== null);
    const share =
      this.#bytesPerSecond === 0 ? 0 : Math.max(1, Math.floor(this.#bytesPerSecond / active.length));
    for (const { setLimit } of active) setLimit?.(share);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.ids.map((transferId) => this.stop(transferId)));
  }
}
