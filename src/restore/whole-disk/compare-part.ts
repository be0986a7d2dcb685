import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import type { MoveProgress } from '../../nbd/mover/move-deps.ts';
import { runMover } from '../../nbd/mover/run-mover.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { RestoreDiskRequest, RestoreTools } from './restore-request.ts';
import { targetNode, type WholeDiskTarget } from './target.ts';

/**
 * Brings the beginning of a target to the restore point by writing only what differs. A storage daemon of its own
 * reads the chain and writes the target: QEMU knows for files, devices and servers alike how to make zeros and holes.
 * When it returns, everything is flushed.
 */
export async function comparePart(
  tools: RestoreTools,
  request: RestoreDiskRequest,
  target: WholeDiskTarget,
  part: { readonly sizeBytes: number; readonly endBytes: number },
): Promise<MoveProgress> {
  const nothing: MoveProgress = { processedBytes: 0, readBytes: 0, writtenBytes: 0, reconnects: 0 };
  if (part.endBytes === 0) return nothing;
  const { point, signal, onProgress } = request;
  const source = readOnlyChain(point.chain);
  if (source === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
  const folder = join(tools.runFolder, 'restore', randomBytes(6).toString('hex'));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  try {
    await using daemon = new StorageDaemon({ logger: tools.logger, folder });
    await daemon.start();
    await daemon.openImage('source', source);
    await daemon.openImage('target', targetNode(target, 'raw'));
    await daemon.addExport('source', 'source', { type: 'nbd', exportName: 'source', writable: false });
    await daemon.addExport('target', 'target', { type: 'nbd', exportName: 'target', writable: true });
    const endpoint = (exportName: string) => ({ socketPath: daemon.nbdSocket, exportName });
    return await runMover({
      moverFile: tools.moverFile,
      spec: {
        task: 'patch',
        source: endpoint('source'),
        target: endpoint('target'),
        targetFile: target.kind === 'nbd' ? null : target.path,
        ...part,
        rowFiles: await point.soundRows(),
      },
      onProgress,
      signal,
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
