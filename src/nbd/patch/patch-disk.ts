import { type FileHandle, open } from 'node:fs/promises';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { NbdConnection } from '../client/nbd-connection.ts';
import { NbdConnectionLost, NbdReplyError } from '../client/protocol.ts';
import { type BlockContent, DigestPool, SlotReadError } from '../mover/digest-pool.ts';
import type { MoveProgress } from '../mover/move-deps.ts';
import { runsOf } from '../mover/plan/block-masks.ts';
import { type KnownContent, ParentRows } from '../mover/rows/parent-rows.ts';
import { BLOCK_BYTES } from '../mover/rows/rows.ts';
import type { PatchSpec } from './patch-spec.ts';

/** Blocks looked at at the same time: two workers digest, the others wait for a disk or a socket. */
const LANES = 8;
const WORKERS = 2;

interface Block {
  readonly offset: number;
  readonly length: number;
  /** What the rows say of the restore point there. */
  readonly known: KnownContent;
}

/** Whole blocks in order; the last one may be short. */
async function* blocksOf(spec: PatchSpec, rows: ParentRows): AsyncGenerator<Block> {
  // rows that broke off once prove nothing any more: an older layer's would answer for the newest
  let areSound = true;
  for (let offset = 0; offset < spec.endBytes; offset += BLOCK_BYTES) {
    const length = Math.min(BLOCK_BYTES, spec.sizeBytes - offset);
    const known = areSound
      ? await rows.covering(offset, length).catch(() => {
          areSound = false;
          return null;
        })
      : null;
    yield { offset, length, known };
  }
}

/**
 * Writes the blocks of a target that differ from a restore point. A block whose digest is the row's is not read from
 * the backup at all. When it returns, everything is flushed. `processedBytes` counts what was compared, `readBytes`
 * what was read from the backup.
 * @throws LAYER_CORRUPT, SOURCE_READ_FAILED, TARGET_FAILED, DISK_FULL, CANCELLED
 */
export async function patchDisk(spec: PatchSpec, progress: MoveProgress, signal: AbortSignal): Promise<void> {
  await using rows = new ParentRows(spec.rowFiles);
  await using pool = new DigestPool(2 * LANES, WORKERS);
  await using source = await NbdConnection.connect(spec.source);
  await using target = await NbdConnection.connect(spec.target);
  await using file = spec.targetFile === null ? null : await open(spec.targetFile, 'r');
  const pass = new PatchPass(spec, progress, { pool, source, target, file });
  const cut = () => {
    source.destroy();
    target.destroy();
  };
  signal.addEventListener('abort', cut, { once: true });
  try {
    await pass.run(blocksOf(spec, rows));
    await target.flush();
  } catch (error) {
    if (signal.aborted) throw new SendenseError('CANCELLED', {}, error);
    throw targetFailure(error, spec);
  } finally {
    signal.removeEventListener('abort', cut);
  }
}

function targetFailure(error: unknown, spec: PatchSpec): unknown {
  const target = spec.targetFile ?? spec.target.exportName;
  if (error instanceof NbdReplyError && error.errno === 'ENOSPC')
    return new SendenseError('DISK_FULL', { path: target }, error);
  const isIo =
    error instanceof NbdReplyError || error instanceof NbdConnectionLost || error instanceof SlotReadError;
  return isIo ? new SendenseError('TARGET_FAILED', { target, detail: messageOf(error) }, error) : error;
}

interface PassParts {
  readonly pool: DigestPool;
  readonly source: NbdConnection;
  readonly target: NbdConnection;
  readonly file: FileHandle | null;
}

class PatchPass {
  readonly #spec: PatchSpec;
  readonly #progress: MoveProgress;
  readonly #parts: PassParts;
  #failure: { readonly error: unknown } | null = null;

  constructor(spec: PatchSpec, progress: MoveProgress, parts: PassParts) {
    this.#spec = spec;
    this.#progress = progress;
    this.#parts = parts;
  }

  /** The first failure ends all lanes. */
  async run(blocks: AsyncGenerator<Block>): Promise<void> {
    const lane = async (slot: number) => {
      try {
        while (this.#failure === null) {
          // a generator hands its items out one after the other, whoever asks
          const next = await blocks.next();
          if (next.done) return;
          await this.#handle(next.value, slot);
          this.#progress.processedBytes += next.value.length;
        }
      } catch (error) {
        this.#failure ??= { error };
      }
    };
    await Promise.all(Array.from({ length: LANES }, (_, slot) => lane(slot)));
    const failure = this.#failure as { readonly error: unknown } | null;
    if (failure !== null) throw failure.error;
  }

  async #handle(block: Block, slot: number): Promise<void> {
    const { offset, length, known } = block;
    const there = await this.#readTarget(offset, slot, length);
    if (known !== null && (known.row.b3 ?? null) === there.digest) return;
    const { pool, target } = this.#parts;
    const below = LANES + slot;
    await this.#readSource(offset, pool.slot(below, length));
    const wanted = await pool.compare(below, slot, length);
    if (known !== null && wanted.digest !== (known.row.b3 ?? null))
      throw new SendenseError('LAYER_CORRUPT', {
        layer: `(layer ${known.layer} from the top)`,
        detail: `its content at byte ${offset} is not what was backed up`,
      });
    for (const run of runsOf(wanted.differenceMask & ~wanted.zeroMask, length))
      await target.write(
        offset + run.start,
        pool.slot(below, length).subarray(run.start, run.start + run.length),
      );
    for (const run of runsOf(wanted.differenceMask & wanted.zeroMask, length))
      await target.writeZeroes(offset + run.start, run.length);
    for (const run of runsOf(wanted.differenceMask, length)) this.#progress.writtenBytes += run.length;
  }

  async #readTarget(offset: number, slot: number, length: number): Promise<BlockContent> {
    const { pool, target, file } = this.#parts;
    if (file !== null) return await pool.readFile(file.fd, offset, slot, length);
    await target.read(offset, pool.slot(slot, length));
    return await pool.digest(slot, length);
  }

  async #readSource(offset: number, into: Buffer): Promise<void> {
    try {
      await this.#parts.source.read(offset, into);
    } catch (error) {
      if (!(error instanceof NbdReplyError)) throw error;
      const path = this.#spec.source.exportName;
      throw new SendenseError('SOURCE_READ_FAILED', { path, offset, detail: error.errno }, error);
    }
    this.#progress.readBytes += into.length;
  }
}
