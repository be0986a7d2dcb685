import { SendenseError } from '../../../base/sendense-error.ts';
import type { ExportBackend } from '../../../nbd/exports/export-backend.ts';
import { exportNameFor } from '../../../nbd/exports/export-name.ts';
import type { Resume } from '../../../nbd/mover/flush-ledger.ts';
import type { SourceSpec } from '../../../nbd/mover/read/source-spec.ts';
import { RowJournal } from '../../../nbd/mover/rows/row-journal.ts';
import { runMover } from '../../../nbd/mover/run-mover.ts';
import { writtenPart } from '../../../repository/layers/written-part.ts';
import type { JobContext } from '../../job-work.ts';
import type { Carrier, CarryOrder } from './carrier.ts';
import { type ProofDeps, proveFilled } from './prove-filled.ts';

interface CarryHereDeps extends ProofDeps {
  readonly exports: ExportBackend;
  readonly moverFile: string;
}

/**
 * For machines of this host: an export that shows the layer's guest bytes, and a mover that fills it. The rows of what
 * is flushed are journaled, so that the next daemon can go on where this one was ended.
 */
export function carryHere(deps: CarryHereDeps): Carrier {
  return async (order, context) => {
    const { plan, disk, diskIndex, files, source } = order;
    if (source.kind === 'agent') throw new SendenseError('INTERNAL', { detail: 'a disk of an agent' });
    const invalid = (detail: string) => new SendenseError('SEAL_FAILED', { layer: order.layer, detail });
    const rules = { sizeBytes: disk.sizeBytes, isFull: plan.parent === null, invalid };
    await using journal = await RowJournal.open(files.journal, rules);
    const replayUntil = order.isBegun ? (await writtenPart(files.partial, context.signal)).end : 0;
    if (order.isBegun)
      context.warn(
        `Disk ${diskIndex}: the daemon was ended at byte ${journal.until} of ${disk.sizeBytes} and went on there.`,
      );
    const resume = { from: journal.until, replayUntil };
    const carried = await throughExport(deps, { ...order, source }, context, journal, resume);
    await journal.writeRows(files.partialRows);
    // what an earlier mover wrote is in no map and no sum
    if (order.isBegun) await proveFilled(deps, order, context, invalid);
    context.fact('transferred', { disk_index: diskIndex });
    return order.isBegun
      ? { ...carried, writtenBytes: (await writtenPart(files.partial, context.signal)).bytes }
      : carried;
  };
}

async function throughExport(
  { exports, moverFile }: CarryHereDeps,
  order: CarryOrder & { readonly source: SourceSpec },
  context: JobContext,
  journal: RowJournal,
  resume: Resume,
): Promise<{ exportName: string; writtenBytes: number }> {
  const { plan, disk, diskIndex, files } = order;
  const parents = plan.parent?.layers ?? [];
  const exportName = exportNameFor({
    ...{ contextId: order.contextId, diskIndex, type: plan.type, startedAt: order.exportTime },
  });
  context.intent('export-opened', { disk_index: diskIndex, export: exportName });
  const opened = await exports.open({
    path: files.partial,
    parents: parents.map((parent) => parent.image),
    sizeBytes: disk.sizeBytes,
    exportName,
  });
  try {
    context.fact('export-opened', { disk_index: diskIndex, export: exportName });
    context.intent('transferred', { disk_index: diskIndex });
    const moved = await runMover({
      moverFile,
      spec: {
        source: order.source,
        target: opened.endpoint,
        tuning: opened.tuning,
        parent:
          parents[0] === undefined
            ? null
            : {
                rowFiles: parents.map((parent) => parent.rows),
                layers: parents.map((parent) => parent.layer),
                sizeBytes: parents[0].sidecar.virtual_size_bytes,
              },
        writtenFile: files.written,
        resume,
      },
      onProgress: order.onProgress,
      onRows: (batch) => journal.append(batch),
      onLimiter: (setLimit) => {
        if (order.bytesPerSecond > 0) setLimit(order.bytesPerSecond);
      },
      signal: context.signal,
    });
    if (moved.reconnects > 0)
      context.warn(
        `Disk ${diskIndex}: the connection to the export was lost ${moved.reconnects} times; what was not flushed was sent again.`,
      );
    return { exportName, writtenBytes: moved.writtenBytes };
  } finally {
    context.intent('export-closed', { disk_index: diskIndex });
    await opened.close();
    context.fact('export-closed', { disk_index: diskIndex });
  }
}
