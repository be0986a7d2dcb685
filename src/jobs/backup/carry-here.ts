import { SendenseError } from '../../base/sendense-error.ts';
import type { ExportBackend } from '../../nbd/exports/export-backend.ts';
import { exportNameFor } from '../../nbd/exports/export-name.ts';
import { runMover } from '../../nbd/mover/run-mover.ts';
import type { Carrier } from './carrier.ts';

interface CarryHereDeps {
  readonly exports: ExportBackend;
  readonly moverFile: string;
}

/** For machines of this host: an export that shows the layer's guest bytes, and a mover that fills it. */
export function carryHere(deps: CarryHereDeps): Carrier {
  return async (order, context) => {
    const { plan, disk, diskIndex, files, source } = order;
    if (source.kind === 'agent') throw new SendenseError('INTERNAL', { detail: 'a disk of an agent' });
    const parents = plan.parent?.layers ?? [];
    const exportName = exportNameFor({
      ...{ contextId: order.contextId, diskIndex, type: plan.type, startedAt: order.exportTime },
    });
    context.intent('export-opened', { disk_index: diskIndex, export: exportName });
    const opened = await deps.exports.open({
      path: files.partial,
      parents: parents.map((parent) => parent.image),
      sizeBytes: disk.sizeBytes,
      exportName,
    });
    try {
      context.fact('export-opened', { disk_index: diskIndex, export: exportName });
      context.intent('transferred', { disk_index: diskIndex });
      const moved = await runMover({
        moverFile: deps.moverFile,
        spec: {
          source,
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
          rowFile: files.partialRows,
          writtenFile: files.written,
        },
        onProgress: order.onProgress,
        onLimiter: (setLimit) => {
          if (order.bytesPerSecond > 0) setLimit(order.bytesPerSecond);
        },
        signal: context.signal,
      });
      if (moved.reconnects > 0)
        context.warn(
          `Disk ${diskIndex}: the connection to the export was lost ${moved.reconnects} times; what was not flushed was sent again.`,
        );
      context.fact('transferred', { disk_index: diskIndex });
      return { exportName, writtenBytes: moved.writtenBytes };
    } finally {
      context.intent('export-closed', { disk_index: diskIndex });
      await opened.close();
      context.fact('export-closed', { disk_index: diskIndex });
    }
  };
}
