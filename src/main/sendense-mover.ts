/**
 * Moves one disk into one export, or brings a target to a restore point, as a process of its own: a hanging source or a crash here never takes the
 * daemon along. The job comes as a line on stdin, progress goes out as lines on stdout. When stdin closes,
 * nobody wants the result any more.
 */
import { createInterface } from 'node:readline';
import { toSendenseError } from '../base/sendense-error.ts';
import { DigestPool } from '../nbd/mover/digest-pool.ts';
import type { MoveProgress } from '../nbd/mover/move-deps.ts';
import { moveDisk, slotsFor } from '../nbd/mover/move-disk.ts';
import type { MoverMessage, MoverOrder, MoverSpec } from '../nbd/mover/mover-spec.ts';
import { openReader } from '../nbd/mover/read/open-reader.ts';
import { ParentRows } from '../nbd/mover/rows/parent-rows.ts';
import { type RowBatch, RowBatches } from '../nbd/mover/rows/row-batches.ts';
import { Throttle } from '../nbd/mover/throttle.ts';
import { WrittenMap } from '../nbd/mover/written-map.ts';
import { patchDisk } from '../nbd/patch/patch-disk.ts';
import type { PatchSpec } from '../nbd/patch/patch-spec.ts';

const PROGRESS_INTERVAL_MS = 250;
/** Two hash faster than any disk or socket here delivers. */
const WORKERS = 2;

const say = (message: MoverMessage) => process.stdout.write(`${JSON.stringify(message)}\n`);

/** Rows go out in order and wait for whoever reads them. */
const sayRows = (batch: RowBatch) =>
  new Promise<void>((resolve) => {
    process.stdout.write(`${JSON.stringify({ type: 'rows', batch } satisfies MoverMessage)}\n`, () =>
      resolve(),
    );
  });

async function move(
  spec: MoverSpec,
  signal: AbortSignal,
  progress: MoveProgress,
  throttle: Throttle,
): Promise<void> {
  await using source = await openReader(spec.source);
  await using pool = new DigestPool(slotsFor(spec.tuning, spec.parent !== null), WORKERS);
  await using parentRows = new ParentRows(spec.parent?.rowFiles ?? []);
  const resume = spec.resume ?? { from: 0, replayUntil: 0 };
  progress.processedBytes = resume.from;
  const written = new WrittenMap(source.sizeBytes);
  await moveDisk({
    source,
    target: spec.target,
    tuning: spec.tuning,
    parent: spec.parent === null ? null : { rows: parentRows, sizeBytes: spec.parent.sizeBytes },
    parentLayers: spec.parent?.layers ?? [],
    pool,
    rows: new RowBatches(resume.from, sayRows),
    written,
    resume,
    throttle,
    progress,
    signal,
  });
  if (spec.writtenFile !== null) await written.save(spec.writtenFile);
}

async function main(): Promise<void> {
  const aborter = new AbortController();
  const lines = createInterface({ input: process.stdin });
  const throttle = new Throttle();
  process.on('SIGTERM', () => aborter.abort());
  const spec = await new Promise<MoverSpec | PatchSpec>((resolve, reject) => {
    // written by our own daemon, from these types
    lines.once('line', (line) => {
      resolve(JSON.parse(line) as MoverSpec | PatchSpec);
      // an order may have come with the very same chunk
      lines.on('line', (order) => throttle.setRate((JSON.parse(order) as MoverOrder).bytesPerSecond));
    });
    lines.once('close', () => reject(new Error('no job on stdin')));
  });
  lines.once('close', () => aborter.abort());
  const progress: MoveProgress = { processedBytes: 0, readBytes: 0, writtenBytes: 0, reconnects: 0 };
  const timer = setInterval(() => say({ type: 'progress', progress }), PROGRESS_INTERVAL_MS);
  try {
    if ('task' in spec) await patchDisk(spec, progress, aborter.signal);
    else await move(spec, aborter.signal, progress, throttle);
    say({ type: 'done', progress });
  } catch (error) {
    const { code, fields } = toSendenseError(error);
    say({ type: 'failed', code, fields });
  } finally {
    clearInterval(timer);
  }
  // stdin may still be open; the answer has been given
  process.stdout.end(() => process.exit(0));
}

await main();
