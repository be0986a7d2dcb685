import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startDaemon } from '../base/process/start-daemon.ts';
import { transferHeap } from '../base/process/transfer-heap.ts';
import { SendenseError } from '../base/sendense-error.ts';
import type { Qcow2Node } from './block-graph.ts';
import { QmpClient } from './qmp-client.ts';

/** How often the job is looked at. */
const POLL_MS = 25;

/** A node of the graph under a name of ours; its `backing` is the name of an earlier one, or null. */
export interface GraphLayer {
  readonly name: string;
  readonly options: Omit<Qcow2Node, 'backing'>;
  readonly backing: string | null;
}

export interface BlockJobRequest {
  /** Made for this job and removed after it; holds the sockets and the log. */
  readonly folder: string;
  /** In the order of opening: parents first. */
  readonly graph: readonly GraphLayer[];
  readonly command: 'block-commit' | 'block-stream';
  readonly args: Readonly<Record<string, unknown>>;
  /** True: ended when all data are moved, before QEMU changes any header. */
  readonly isDataOnly: boolean;
  /** Bytes per second; null: as fast as it goes. */
  readonly rateBytes: number | null;
  /** @param doneBytes of `totalBytes`, as QEMU counts them */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
  readonly signal: AbortSignal;
}

interface JobInfo {
  readonly status: string;
  readonly 'current-progress': number;
  readonly 'total-progress': number;
  readonly error?: string;
}

/**
 * Runs one block job in a qemu-storage-daemon of its own, on exactly this graph. When it returns the images are
 * flushed and closed. A killed one leaves images that can be opened; what it did is repeated by running it again.
 * @throws QMP_FAILED with QEMU's own words, CANCELLED
 */
export async function runBlockJob(request: BlockJobRequest): Promise<void> {
  const { folder, signal } = request;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o750 });
  const socket = join(folder, 'qmp.sock');
  const monitors: QmpClient[] = [];
  try {
    await using daemon = await startDaemon(
      'qemu-storage-daemon',
      [
        '--chardev',
        `socket,path=${socket.replaceAll(',', ',,')},server=on,wait=off,id=m`,
        '--monitor',
        'chardev=m',
      ],
      {
        logFile: join(folder, 'qsd.log'),
        env: transferHeap,
        readyWhen: async () => {
          if (!existsSync(socket)) return false;
          const client = await QmpClient.connect(socket).catch(() => null);
          if (client) monitors.push(client);
          return client !== null;
        },
      },
    );
    const [monitor] = monitors;
    if (!monitor) throw new SendenseError('QMP_FAILED', { command: request.command, detail: 'no monitor' });
    for (const { name, options, backing } of request.graph)
      await monitor.execute('blockdev-add', { ...options, backing, 'node-name': name });
    await monitor.execute(request.command, {
      'job-id': 'job',
      'auto-dismiss': false,
      'auto-finalize': !request.isDataOnly,
      speed: request.rateBytes ?? 0,
      ...request.args,
    });
    await follow(monitor, request);
    // an orderly end flushes and closes every node
    await monitor.execute('quit');
    await daemon.exited;
  } catch (error) {
    throw signal.aborted ? new SendenseError('CANCELLED', {}, error) : error;
  } finally {
    for (const monitor of monitors) await monitor[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  }
}

async function follow(monitor: QmpClient, request: BlockJobRequest): Promise<void> {
  let isMoved = false;
  for (;;) {
    request.signal.throwIfAborted();
    const [job] = (await monitor.execute('query-jobs')) as JobInfo[];
    if (!job) throw new SendenseError('QMP_FAILED', { command: request.command, detail: 'the job vanished' });
    request.onProgress(job['current-progress'], job['total-progress']);
    // the commit of a topmost image waits to be told that its writer may be switched; there is no writer
    if (job.status === 'ready') await monitor.execute('job-complete', { id: 'job' });
    // the header would be changed now, while the tables are still in QEMU's memory: a kill would lose what was moved
    if (job.status === 'pending') {
      isMoved = true;
      await monitor.execute('job-cancel', { id: 'job' });
    }
    if (job.status === 'concluded') {
      if (job.error !== undefined && !isMoved)
        throw new SendenseError('QMP_FAILED', { command: request.command, detail: job.error });
      await monitor.execute('job-dismiss', { id: 'job' });
      return;
    }
    await sleep(POLL_MS);
  }
}
