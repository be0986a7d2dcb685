import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import type { NbdEndpoint, NbdTls } from '../../nbd/client/endpoint.ts';
import type { MoveProgress } from '../../nbd/mover/move-deps.ts';
import type { RowBatch } from '../../nbd/mover/rows/row-batches.ts';
import { runMover } from '../../nbd/mover/run-mover.ts';
import type { Ask } from '../protocol/calls.ts';
import type { OpenedDisk } from './snapshots.ts';
import { openTunnel } from './ssh-tunnel.ts';

export interface TransferDeps {
  readonly moverFile: string;
  /** The folder for this transfer; made and removed here. */
  readonly folder: string;
  /** The appliance, as the agent reaches it. */
  readonly host: string;
  readonly key: string;
  readonly sshKeyFile: string;
  /** The row files of the layers below, newest first. */
  readonly parentRows: () => AsyncIterable<{ file: number; bytes: Buffer }>;
  readonly onProgress: (progress: MoveProgress) => void;
  /** Waits while the appliance does not take them. */
  readonly onRows: (batch: RowBatch) => Promise<void>;
  /** Called with what changes the limit from now on, bytes per second, 0: none. */
  readonly onLimiter: (setLimit: (bytesPerSecond: number) => void) => void;
  readonly signal: AbortSignal;
}

/** Moves one disk into one export of the appliance. @throws what the mover or the tunnel failed with, CANCELLED */
export async function runTransfer(
  order: Ask<'transfer'>,
  opened: OpenedDisk,
  deps: TransferDeps,
): Promise<void> {
  await mkdir(deps.folder, { recursive: true, mode: 0o700 });
  try {
    const rowFiles = order.parent === null ? [] : await fetchRows(deps, order.parent.layers.length);
    await using tunnel = await tunnelOf(order, deps);
    const lost = new AbortController();
    void tunnel?.exited.then(() => lost.abort());
    const target = endpointOf(order, deps, tunnel?.socketPath ?? null);
    await runMover({
      moverFile: deps.moverFile,
      spec: {
        source: opened.spec,
        target,
        tuning: order.tuning,
        parent: order.parent === null ? null : { ...order.parent, rowFiles },
        writtenFile: null,
        resume: order.resume,
      },
      onProgress: deps.onProgress,
      onRows: deps.onRows,
      onLimiter: deps.onLimiter,
      signal: AbortSignal.any([deps.signal, lost.signal]),
    }).catch((error: unknown) => {
      if (!lost.signal.aborted || deps.signal.aborted) throw error;
      throw new SendenseError('TUNNEL_FAILED', { address: deps.host, detail: 'it broke' }, error);
    });
  } finally {
    await rm(deps.folder, { recursive: true, force: true });
  }
}

async function tunnelOf({ export: { way } }: Ask<'transfer'>, deps: TransferDeps) {
  if (way.kind !== 'ssh') return null;
  return await openTunnel({ host: deps.host, way, keyFile: deps.sshKeyFile, folder: deps.folder });
}

function endpointOf(
  { export: { name, way, tls } }: Ask<'transfer'>,
  deps: TransferDeps,
  tunnelSocket: string | null,
): NbdEndpoint {
  const secured: NbdTls | null = tls === null || tls.kind === 'psk' ? tls : { ...tls, key: deps.key };
  const common = { exportName: name, ...(secured === null ? {} : { tls: secured }) };
  if (way.kind === 'local') return { ...common, socketPath: way.socketPath };
  if (tunnelSocket !== null) return { ...common, socketPath: tunnelSocket };
  return { ...common, host: deps.host, port: way.port };
}

async function fetchRows(deps: TransferDeps, count: number): Promise<string[]> {
  const paths = Array.from({ length: count }, (_, index) => join(deps.folder, `parent-${index}.rows`));
  const files = paths.map((path) => createWriteStream(path, { mode: 0o600 }));
  try {
    for await (const { file, bytes } of deps.parentRows()) {
      deps.signal.throwIfAborted();
      const target = files[file];
      if (!target) throw new SendenseError('INTERNAL', { detail: `the appliance sent a row file ${file}` });
      if (!target.write(bytes)) await once(target, 'drain');
    }
  } finally {
    for (const file of files) file.end();
    await Promise.all(files.map((file) => finished(file)));
  }
  return paths;
}
