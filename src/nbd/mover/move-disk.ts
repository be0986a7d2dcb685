import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { NbdConnection, type NbdEndpoint } from '../client/nbd-connection.ts';
import { NbdConnectionLost, NbdReplyError } from '../client/protocol.ts';
import type { TransferTuning } from '../exports/export-backend.ts';
import { planChanges } from './changes/plan-changes.ts';
import { FlushLedger } from './flush-ledger.ts';
import type { MoveDeps } from './move-deps.ts';
import { planBlocks, type WorkItem } from './plan/block-plan.ts';
import { TransferPass } from './transfer-pass.ts';

/** How long an export may stay away before the transfer is given up. */
const RECONNECT_TIMEOUT_MS = 30_000;
/** Failures in a row without any flush in between. */
const MAX_FAILURES = 5;

/** Slots the mover needs: one for each request in flight, and one more each for the parent's block. */
export const slotsFor = (tuning: TransferTuning, hasParent: boolean): number =>
  tuning.connections * tuning.inFlight * (hasParent ? 2 : 1);

/**
 * Copies a disk into an export and writes the rows. Changed data is written, changed zeros are written too (the
 * parent holds old data there), unchanged ranges are left alone. When it returns, everything is flushed.
 * @throws SOURCE_READ_FAILED, SOURCE_CHANGED_SIZE, LAYER_CORRUPT (a parent), CHANGES_WRONG, SOURCE_LOST, REPOSITORY_FULL, EXPORT_LOST, CANCELLED
 */
export async function moveDisk(deps: MoveDeps): Promise<void> {
  const ledger = new FlushLedger((from) => planFrom(deps, from), deps.rows, deps.resume);
  let failures = 0;
  for (;;) {
    deps.signal.throwIfAborted();
    let connections: NbdConnection[] = [];
    try {
      connections = await connectAll(deps);
      const pass = new TransferPass(deps, ledger, connections, () => {
        failures = 0;
      });
      await pass.run();
      await Promise.all(connections.map((connection) => connection.close()));
      return;
    } catch (error) {
      for (const connection of connections) connection.destroy();
      if (deps.signal.aborted) throw new SendenseError('CANCELLED', {}, error);
      const transient = asTransient(error);
      failures += 1;
      if (!transient || failures > MAX_FAILURES) throw finalError(error, deps.target);
      for (const item of ledger.replayUnflushed()) deps.written.unmark(item.offset, item.length);
      deps.progress.reconnects += 1;
      await sleep(100 * 2 ** failures, undefined, { signal: deps.signal }).catch(() => undefined);
      await reconnectSource(deps);
    }
  }
}

function planFrom({ source, parent }: MoveDeps, from: number): AsyncIterable<WorkItem> {
  const extents = source.extents(from);
  if (parent !== null && source.knowsChanges) return planChanges(extents, source.sizeBytes, parent, from);
  return planBlocks(extents, source.sizeBytes, parent, from);
}

const asTransient = (error: unknown): boolean =>
  error instanceof NbdConnectionLost ||
  (error instanceof NbdReplyError && error.errno !== 'ENOSPC') ||
  hasCode(error, 'EXPORT_FAILED');

function finalError(error: unknown, target: NbdEndpoint): unknown {
  if (error instanceof NbdReplyError && error.errno === 'ENOSPC')
    return new SendenseError('REPOSITORY_FULL', { path: target.exportName }, error);
  if (asTransient(error))
    return new SendenseError('EXPORT_LOST', { export: target.exportName, detail: messageOf(error) }, error);
  return error;
}

async function untilDeadline<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + RECONNECT_TIMEOUT_MS;
  for (let delayMs = 20; ; delayMs = Math.min(delayMs * 2, 1_000)) {
    try {
      return await attempt();
    } catch (error) {
      if (!asTransient(error) || Date.now() > deadline || signal.aborted) throw error;
      await sleep(delayMs);
    }
  }
}

/** All at once: over a long way each takes several round trips. */
async function connectAll(deps: MoveDeps): Promise<NbdConnection[]> {
  const attempts = await Promise.allSettled(
    Array.from({ length: deps.tuning.connections }, () =>
      untilDeadline(deps.signal, () => NbdConnection.connect(deps.target)),
    ),
  );
  const connections = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []));
  try {
    for (const attempt of attempts) if (attempt.status === 'rejected') throw attempt.reason;
    for (const { sizeBytes } of connections)
      if (sizeBytes !== deps.source.sizeBytes)
        throw new SendenseError('NBD_PROTOCOL', {
          endpoint: deps.target.exportName,
          detail: `it has ${sizeBytes} bytes instead of ${deps.source.sizeBytes}`,
        });
    return connections;
  } catch (error) {
    for (const connection of connections) connection.destroy();
    throw error;
  }
}

async function reconnectSource(deps: MoveDeps): Promise<void> {
  try {
    await untilDeadline(deps.signal, () => deps.source.reconnect());
  } catch (error) {
    if (!asTransient(error)) throw error;
    throw new SendenseError('SOURCE_LOST', { path: deps.source.path, detail: messageOf(error) }, error);
  }
}
