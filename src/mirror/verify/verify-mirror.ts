import { blake3 } from '@napi-rs/blake-hash';
import { hasCode, messageOf, SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import type { ChainDocument } from '../documents.ts';
import { layout, packIdIn } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import {
  listPointNames,
  type OpenPoint,
  readBaseManifest,
  readChain,
  readTable,
} from '../points/read-point.ts';
import type { VerifyReport } from '../program/mirror-task.ts';
import { findDamaged } from './find-damaged.ts';
import { type PlacedRow, placedRow, readObject } from './read-objects.ts';

interface VerifyOrder {
  /** Of all objects, at least so many percent are read; 0: it is only looked whether they are there. */
  readonly deepPercent: number;
  /** How often that was done before: each time the next part is read, so that all are after a while. */
  readonly run: number;
  readonly signal: AbortSignal;
}

/** A pack has 32 MiB; the memory for these is bounded. */
const PACKS_AT_ONCE = 3;
const BLOCKS_AT_ONCE = 8;
const MAX_PROBLEMS = 1000;

/**
 * Looks whether all that the restore points need is there and long enough; of a part of the objects also whether their
 * blocks open and are what they should be. What is damaged is not relied on any more: the next upload sends it again.
 */
export async function verifyMirror(
  mirror: Mirror,
  index: MirrorIndex | null,
  { deepPercent, run, signal }: VerifyOrder,
): Promise<VerifyReport> {
  const sizes = await objectSizes(mirror);
  const names = await listPointNames(mirror);
  const isTurn = turns(deepPercent, run);
  const chains = new Map<string, ChainDocument>();
  const used = new Set<string>();
  const problems = new Map<string, { point: string; key: string; detail: string }>();
  const proven = new Set<string>();
  let blocks = 0;
  let bytes = 0;
  const tell = (point: string, key: string, detail: string) => {
    if (problems.size < MAX_PROBLEMS) problems.set(`${point} ${key}`, { point, key, detail });
  };
  const report = (point: string, error: unknown) => {
    if (!hasCode(error, 'MIRROR_OBJECT_DAMAGED', 'MIRROR_OBJECT_MISSING', 'MIRROR_TOO_NEW')) throw error;
    tell(point, String(toSendenseError(error).fields['key'] ?? ''), messageOf(error));
  };
  const stopIfAsked = () => {
    if (signal.aborted) throw new SendenseError('CANCELLED');
  };

  const open = async (name: string): Promise<OpenPoint | null> => {
    try {
      const manifest = await readBaseManifest(mirror, name);
      const chain = await readChain(mirror, manifest);
      chains.set(name, chain);
      return { manifest, chain, table: await readTable(mirror, manifest) };
    } catch (error) {
      report(name, error);
      return null;
    }
  };

  const readAll = async (name: string, point: OpenPoint, groups: readonly number[][]) => {
    const queue = [...groups];
    const worker = async () => {
      for (let group = queue.pop(); group; group = queue.pop()) {
        stopIfAsked();
        const rows = group.map((at) => placedRow(point, at)).filter((row) => row !== null);
        try {
          bytes += await readObject(mirror, rows);
          blocks += rows.length;
          for (const row of rows) proven.add(idOf(row));
        } catch (error) {
          report(name, error);
        }
      }
    };
    const count = mirror.mode === 'packed' ? PACKS_AT_ONCE : BLOCKS_AT_ONCE;
    await Promise.all(Array.from({ length: count }, worker));
  };

  const look = async (name: string): Promise<void> => {
    const point = await open(name);
    if (point === null) return;
    const groups = new Map<string, number[]>();
    for (let at = 0; at < point.table.count; at += 1) {
      const row = placedRow(point, at);
      if (row === null) continue;
      used.add(row.key);
      const size = sizes.get(row.key);
      if (size === undefined) tell(name, row.key, 'It is missing.');
      else if (size < row.at + row.length) tell(name, row.key, 'It is too short.');
      else if (isTurn(row.key) && !proven.has(idOf(row))) {
        const group = groups.get(row.key);
        if (group) group.push(at);
        else groups.set(row.key, [at]);
      }
    }
    stopIfAsked();
    await readAll(name, point, [...groups.values()]);
  };

  const seen = new Set<string>(names);
  for (const name of seen) {
    await look(name);
    // a set that grows is walked to its end
    for (const base of chains.get(name)?.dependencies ?? []) seen.add(base);
  }
  const found = [...problems.values()];
  const keys = found.map(({ key }) => key);
  index?.dropPacks(keys.map(packIdIn).filter((id) => id !== null));
  return {
    points: names.length,
    objects: used.size,
    blocks,
    bytes,
    problems: found,
    damaged: findDamaged(
      chains,
      keys,
      found.map(({ point }) => point),
    ),
  };
}

async function objectSizes({ store, mode }: Mirror): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  for await (const { key, sizeBytes } of store.list(mode === 'plain' ? layout.blocks : layout.packs))
    sizes.set(key, sizeBytes);
  return sizes;
}

const idOf = ({ key, at }: PlacedRow): string => `${key} ${at}`;

/** Whose turn it is to be read: an object always falls into the same of so many parts. */
function turns(percent: number, run: number): (key: string) => boolean {
  if (percent <= 0) return () => false;
  const parts = Math.max(1, Math.floor(100 / percent));
  return (key) => blake3(key).readUInt32LE(0) % parts === run % parts;
}
