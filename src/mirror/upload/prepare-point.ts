import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import type { BlockRow } from '../points/block-rows.ts';
import { homeOf } from '../points/home-of.ts';
import { seenParts } from '../points/point-map.ts';
import { openPointChain } from '../points/read-point.ts';
import type { ObjectRetention } from '../store/object-store.ts';
import type { Pacer } from '../store/pacer.ts';
import { findBase } from './find-base.ts';
import { GuestBlocks } from './guest-blocks.ts';
import type { PackUploader } from './pack-uploader.ts';
import { uploadPlainBlocks } from './plain-blocks.ts';
import type { PreparedPoint } from './sync-deps.ts';
import type { SyncProgress } from './sync-progress.ts';
import type { DiskInput } from './sync-task.ts';
import { uploadRows } from './upload-rows.ts';

interface PrepareDeps {
  readonly mirror: Mirror;
  readonly index: MirrorIndex;
  readonly uploader: PackUploader;
  readonly pacer: Pacer;
  readonly progress: SyncProgress;
  readonly retention: ObjectRetention | undefined;
  readonly signal: AbortSignal;
  /** Keys that may vanish at any time. */
  readonly condemned: ReadonlySet<string>;
  /** Points that nothing new may stand on. */
  readonly damaged: ReadonlySet<string>;
}

/** Uploads the blocks of one disk. @returns its documents, to be asked for after the uploader was flushed */
export async function preparePoint(
  deps: PrepareDeps,
  disk: DiskInput,
): Promise<() => Promise<PreparedPoint>> {
  const { mirror } = deps;
  const base = await findBase(deps, disk);
  const layers = base?.layersAbove ?? disk.layers.length;
  const guest = new GuestBlocks(disk);
  const describe = (chain: Pick<PreparedPoint['chain'], 'packs' | 'borrowed'>) => ({
    disk,
    chain: {
      format: 1 as const,
      snapshotName: disk.point,
      baseSnapshotName: base?.name ?? null,
      isIncremental: base !== null,
      dependencies: base === null ? [] : [base.name, ...base.chain.dependencies],
      ...chain,
    },
  });
  if (mirror.mode === 'packed') {
    const finish = await uploadRows({ ...deps, guest }, disk, layers);
    return async () => {
      const { packs, ...rows } = await finish();
      await guest[Symbol.asyncDispose]();
      const reusedPacks = packs.filter((id) => !deps.uploader.complete.includes(id));
      return { ...describe({ packs: [...packs], borrowed: [] }), ...rows, reusedPacks };
    };
  }
  const borrower = base === null ? await borrowerFor(deps, disk) : null;
  const there = await objectsOf(mirror, disk.point);
  const rows = await uploadPlainBlocks(
    {
      ...deps,
      guest,
      isThere: (key) => there.has(key) && !deps.condemned.has(key) && !deps.damaged.has(disk.point),
      borrow: borrower?.borrow ?? (() => null),
    },
    disk,
    layers,
  );
  await guest[Symbol.asyncDispose]();
  return async () => ({
    ...describe({ packs: [], borrowed: borrower?.names() ?? [] }),
    ...rows,
    reusedPacks: [],
  });
}

async function objectsOf({ store }: Mirror, point: string): Promise<Set<string>> {
  const keys = new Set<string>();
  for await (const { key } of store.list(`${layout.blocks}${point}/`)) keys.add(key);
  return keys;
}

/** For a whole point in plain mode: rows that say a block is as at the newest point that the mirror has. */
async function borrowerFor({ mirror, index, condemned, damaged }: PrepareDeps, disk: DiskInput) {
  const newest = disk.layers.slice(1).find(({ point }) => index.hasPoint(point) && !damaged.has(point));
  if (!newest) return null;
  const opened = await openPointChain(mirror, newest.point);
  const names: string[] = [];
  const borrow = (offset: number, size: number, b3: string): BlockRow | null => {
    const [part] = seenParts(
      opened.map(({ table }) => table),
      offset,
      offset + size,
    );
    const row = part?.row;
    if (!part || !row || ('zero' in row && row.zero) || part.size !== size || part.skip !== 0) return null;
    if (row.b3 !== b3 || row.size !== size || row.offset !== offset || row.skip !== undefined) return null;
    const name = homeOf(opened[part.depth], row);
    if (name === null || condemned.has(layout.block(name, offset, size))) return null;
    const known = names.indexOf(name);
    return { offset, size, b3, from: known === -1 ? names.push(name) - 1 : known };
  };
  return { borrow, names: () => names };
}
