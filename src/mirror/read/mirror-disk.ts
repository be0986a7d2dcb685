import { SendenseError } from '../../base/sendense-error.ts';
import type { ServedDisk } from '../../nbd/serve/served-disk.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { isBlock, openBlock } from '../packs/read-frame.ts';
import type { BlockRow, PackedRow, PlainRow } from '../points/block-rows.ts';
import { homeOf } from '../points/home-of.ts';
import { seenParts } from '../points/point-map.ts';
import type { OpenPoint } from '../points/read-point.ts';
import type { BlockCache } from './block-cache.ts';

/** Blocks that lie one after the other in a pack are fetched by one request, up to so many bytes. */
const RUN_BYTES = 8 * 1024 * 1024;
/** What follows is fetched too when reads go on in order, so that a long read needs few requests. */
const AHEAD_BYTES = 16 * 1024 * 1024;

/** A block and where it lies. */
interface Wanted {
  readonly key: string;
  readonly row: PackedRow | PlainRow;
  readonly packId: string | null;
}

/** A disk at a restore point, read from the bucket: only the blocks that are asked for, each proven. */
export class MirrorDisk implements ServedDisk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #mirror: Mirror;
  readonly #points: readonly OpenPoint[];
  readonly #cache: BlockCache;
  #lastEnd = -1;
  #aheadTo = 0;

  /** @param points the restore point and all it stands on, newest first */
  constructor(mirror: Mirror, name: string, points: readonly OpenPoint[], cache: BlockCache) {
    const [top] = points;
    if (!top) throw new SendenseError('INTERNAL', { detail: 'a disk without a point' });
    this.name = name;
    this.sizeBytes = top.manifest.volumeSize;
    this.#mirror = mirror;
    this.#points = points;
    this.#cache = cache;
  }

  /** @throws MIRROR_OBJECT_MISSING, MIRROR_OBJECT_DAMAGED, MIRROR_UNREACHABLE */
  async read(offset: number, into: Buffer): Promise<void> {
    const end = offset + into.length;
    const isInOrder = offset === this.#lastEnd;
    this.#lastEnd = end;
    const parts = [...this.#parts(offset, end)];
    this.#fetch(parts.map(({ row, depth }) => this.#wanted(row, depth)));
    if (isInOrder) this.#readAhead(end);
    for (const { offset: at, size, row, depth, skip } of parts) {
      const target = into.subarray(at - offset, at - offset + size);
      const wanted = this.#wanted(row, depth);
      if (wanted === null) {
        target.fill(0);
        continue;
      }
      const content = await this.#cache.get(wanted.key, () => this.#fetchRun([wanted]));
      const first = (wanted.row.skip ?? 0) + skip;
      content.copy(target, 0, first, first + size);
    }
  }

  /** From the rows alone: a long hole costs no request. */
  *extents(offset: number, length: number): Generator<{ length: number; isZero: boolean }> {
    for (const { size, row } of this.#parts(offset, offset + length))
      yield { length: size, isZero: row === null || ('zero' in row && row.zero === true) };
  }

  *#parts(from: number, to: number) {
    yield* seenParts(
      this.#points.map(({ table }) => table),
      from,
      to,
    );
  }

  #readAhead(from: number): void {
    const to = Math.min(this.sizeBytes, from + AHEAD_BYTES);
    const start = Math.max(from, this.#aheadTo);
    // in large steps: one request for many blocks
    if (to - start < AHEAD_BYTES / 2 && to < this.sizeBytes) return;
    if (start >= to) return;
    this.#aheadTo = to;
    this.#fetch([...this.#parts(start, to)].map(({ row, depth }) => this.#wanted(row, depth)));
  }

  #wanted(row: BlockRow | null, depth: number): Wanted | null {
    const point = this.#points[depth];
    if (row === null || !point || ('zero' in row && row.zero)) return null;
    if ('pack' in row && row.pack !== undefined) {
      const packId = point.chain.packs[row.pack];
      if (packId === undefined) throw this.#senseless(point);
      return { key: `${packId} ${row.at}`, row, packId };
    }
    const home = homeOf(point, row);
    if (home === null) throw this.#senseless(point);
    const key = layout.block(home, row.offset - (row.skip ?? 0), row.raw ?? row.size);
    return { key, row, packId: null };
  }

  #senseless({ manifest }: OpenPoint): SendenseError {
    const key = layout.rows(manifest.name);
    return new SendenseError('MIRROR_OBJECT_DAMAGED', {
      key,
      detail: 'a row names an object that it has not',
    });
  }

  /** Begins to fetch what is not there yet: neighbours in a pack by one request. */
  #fetch(wanted: readonly (Wanted | null)[]): void {
    let run: Wanted[] = [];
    const flush = () => {
      const blocks = run;
      run = [];
      if (blocks.length === 0) return;
      const fetched = this.#fetchRun(blocks);
      for (const [index, block] of blocks.entries())
        this.#cache.put(
          block.key,
          fetched.then((contents) => contents[index] ?? Buffer.alloc(0)),
        );
    };
    for (const next of wanted) {
      if (next === null || this.#cache.has(next.key) || run.some(({ key }) => key === next.key)) continue;
      const last = run.at(-1);
      if (last && !follows(run, last, next)) flush();
      run.push(next);
    }
    flush();
  }

  async #fetchRun(blocks: readonly Wanted[]): Promise<Buffer[]> {
    const [first] = blocks;
    if (!first) return [];
    const { mirror } = { mirror: this.#mirror };
    if (first.packId === null) {
      const { body } = await mirror.store.get(first.key);
      if (!isBlock(body, first.row.b3))
        throw new SendenseError('MIRROR_OBJECT_DAMAGED', {
          key: first.key,
          detail: 'it has another content than its digest says',
        });
      return [body];
    }
    const rows = blocks.map(({ row }) => row as PackedRow);
    const from = rows[0]?.at ?? 0;
    const last = rows.at(-1);
    const length = (last ? last.at + last.len : 0) - from;
    const key = layout.pack(first.packId);
    const { body } = await mirror.store.get(key, { offset: from, length });
    if (body.length !== length)
      throw new SendenseError('MIRROR_OBJECT_DAMAGED', { key, detail: 'it is cut off' });
    return rows.map(({ b3, raw, size, at, len, codec }) => {
      const sealed = body.subarray(at - from, at - from + len);
      const block = { b3, rawBytes: raw ?? size, at, len, codec };
      const content = openBlock(mirror.keys, first.packId ?? '', block, sealed);
      // what was not packed is a part of the answer: a copy lets go of the rest
      return codec === 'raw' && !mirror.keys.isEncrypted && rows.length > 1 ? Buffer.from(content) : content;
    });
  }
}

function follows(run: readonly Wanted[], last: Wanted, next: Wanted): boolean {
  if (last.packId === null || last.packId !== next.packId) return false;
  const [begin, before, after] = [run[0]?.row, last.row, next.row] as PackedRow[];
  if (!begin || !before || !after) return false;
  return after.at === before.at + before.len && after.at + after.len - begin.at <= RUN_BYTES;
}
