import { blake3 } from '@napi-rs/blake-hash';
import { type Row, RowWriter } from '../../nbd/mover/rows/rows.ts';
import type { Mirror } from '../mirror.ts';
import { seenParts } from '../points/point-map.ts';
import { documentsOf, openPointChain } from '../points/read-point.ts';
import type { TaskResults } from '../program/mirror-task.ts';
import { BlockCache } from './block-cache.ts';
import { MirrorDisk } from './mirror-disk.ts';

const CACHE_BYTES = 32 * 1024 * 1024;

/**
 * Writes the rows of a whole disk at a restore point, as the repository keeps them beside a full.
 * @returns the documents of the repository, as they were when it was uploaded
 */
export async function describePoints(
  mirror: Mirror,
  points: readonly { readonly name: string; readonly rowFile: string }[],
): Promise<TaskResults['describe']> {
  const described: TaskResults['describe']['points'][number][] = [];
  for (const { name, rowFile } of points) {
    const opened = await openPointChain(mirror, name);
    const disk = new MirrorDisk(mirror, name, opened, new BlockCache(CACHE_BYTES));
    const rows = new RowWriter(rowFile);
    const tables = opened.map(({ table }) => table);
    try {
      for (const { offset, size, row, skip } of seenParts(tables, 0, disk.sizeBytes)) {
        const isWhole = row !== null && skip === 0 && size === row.size;
        if (row === null || ('zero' in row && row.zero)) await rows.write({ offset, size, zero: true });
        else if (isWhole && row.skip === undefined && row.raw === undefined)
          for (const part of await wholeRows(disk, offset, size, row.b3)) await rows.write(part);
        else for (const part of await readRows(disk, offset, size)) await rows.write(part);
      }
      await rows.close();
    } catch (error) {
      await rows.abandon();
      throw error;
    }
    const [top] = opened;
    if (top) described.push({ name, ...documentsOf(mirror.keys, top.manifest) });
  }
  return { points: described };
}

/** Rows of a repository are never longer than this. */
const ROW_BYTES = 1024 * 1024;

async function wholeRows(disk: MirrorDisk, offset: number, size: number, b3: string): Promise<Row[]> {
  return size <= ROW_BYTES ? [{ offset, size, b3 }] : await readRows(disk, offset, size);
}

async function readRows(disk: MirrorDisk, from: number, size: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (let offset = from; offset < from + size; offset += ROW_BYTES) {
    const content = Buffer.alloc(Math.min(ROW_BYTES, from + size - offset));
    await disk.read(offset, content);
    rows.push({ offset, size: content.length, b3: blake3(content).toString('hex') });
  }
  return rows;
}
