import { hasCode, messageOf, SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { isBlock, openBlock } from '../packs/read-frame.ts';
import type { BlockRow } from '../points/block-rows.ts';
import { homeOf } from '../points/home-of.ts';
import {
  listPointNames,
  type OpenPoint,
  readBaseManifest,
  readChain,
  readTable,
} from '../points/read-point.ts';
import type { VerifyReport } from '../program/mirror-task.ts';

interface VerifyOrder {
  readonly deepPercent: number;
  readonly signal: AbortSignal;
}

const AT_ONCE = 8;

/**
 * Looks whether all that the restore points need is there and long enough; of a part of the blocks, chosen anew each
 * time, also whether they open and are what they should be.
 */
export async function verifyMirror(
  mirror: Mirror,
  { deepPercent, signal }: VerifyOrder,
): Promise<VerifyReport> {
  const { store } = mirror;
  const problems: { point: string; key: string; detail: string }[] = [];
  const sizes = new Map<string, number>();
  for (const prefix of mirror.mode === 'plain' ? [layout.blocks] : [layout.packs])
    for await (const { key, sizeBytes } of store.list(prefix)) sizes.set(key, sizeBytes);
  const names = await listPointNames(mirror);
  const seen = new Set<string>();
  const used = new Set<string>();
  let blocks = 0;
  let bytes = 0;
  const report = (point: string, error: unknown) => {
    if (!hasCode(error, 'MIRROR_OBJECT_DAMAGED', 'MIRROR_OBJECT_MISSING', 'MIRROR_TOO_NEW')) throw error;
    const { fields } = toSendenseError(error);
    problems.push({ point, key: String(fields['key'] ?? ''), detail: messageOf(error) });
  };
  const look = async (name: string): Promise<void> => {
    if (seen.has(name)) return;
    seen.add(name);
    let point: OpenPoint;
    try {
      const manifest = await readBaseManifest(mirror, name);
      const chain = await readChain(mirror, manifest);
      point = { manifest, chain, table: await readTable(mirror, manifest) };
    } catch (error) {
      report(name, error);
      return;
    }
    const checks: (() => Promise<void>)[] = [];
    for (let at = 0; at < point.table.count; at += 1) {
      if (signal.aborted) throw new SendenseError('CANCELLED');
      const row = point.table.at(at);
      const place = placeOf(point, row);
      if (place === null) continue;
      used.add(place.key);
      const size = sizes.get(place.key);
      const missing = size === undefined;
      if (missing || size < place.offset + place.length) {
        if (
          problems.length < MAX_PROBLEMS &&
          !problems.some((one) => one.key === place.key && one.point === name)
        )
          problems.push({
            point: name,
            key: place.key,
            detail: missing ? 'It is missing.' : 'It is too short.',
          });
        continue;
      }
      if (Math.random() * 100 >= deepPercent) continue;
      checks.push(async () => {
        try {
          const length = await readOne(mirror, point, row, place);
          bytes += length;
          blocks += 1;
        } catch (error) {
          report(name, error);
        }
      });
    }
    const worker = async () => {
      for (let check = checks.pop(); check; check = checks.pop()) {
        if (signal.aborted) throw new SendenseError('CANCELLED');
        await check();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    for (const base of point.chain.dependencies) await look(base);
  };
  for (const name of names) await look(name);
  return { points: names.length, objects: used.size, blocks, bytes, problems };
}

const MAX_PROBLEMS = 1000;

interface Place {
  readonly key: string;
  readonly offset: number;
  readonly length: number;
}

function placeOf(point: OpenPoint, row: BlockRow): Place | null {
  if ('zero' in row && row.zero) return null;
  if ('pack' in row && row.pack !== undefined)
    return { key: layout.pack(point.chain.packs[row.pack] ?? ''), offset: row.at, length: row.len };
  const home = homeOf(point, row) ?? '';
  const size = row.raw ?? row.size;
  return { key: layout.block(home, row.offset - (row.skip ?? 0), size), offset: 0, length: size };
}

async function readOne(mirror: Mirror, point: OpenPoint, row: BlockRow, place: Place): Promise<number> {
  if ('zero' in row && row.zero) return 0;
  const { body } = await mirror.store.get(place.key, { offset: place.offset, length: place.length });
  const rawBytes = row.raw ?? row.size;
  if ('pack' in row && row.pack !== undefined) {
    const { b3, at, len, codec } = row;
    openBlock(mirror.keys, point.chain.packs[row.pack] ?? '', { b3, rawBytes, at, len, codec }, body);
  } else if (!isBlock(body, row.b3))
    throw new SendenseError('MIRROR_OBJECT_DAMAGED', {
      key: place.key,
      detail: 'its content is not what its digest says',
    });
  return rawBytes;
}
