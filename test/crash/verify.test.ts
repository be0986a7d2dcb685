import {
  closeSync,
  cpSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { blake3 } from '@napi-rs/blake-hash';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock as clock } from '../../src/base/clock.ts';
import { messageOf, SendenseError } from '../../src/base/sendense-error.ts';
import { type Catalog, createCatalog } from '../../src/catalog/catalog.ts';
import type { Repositories } from '../../src/jobs/repository/repositories.ts';
import { RepositoryKeeper } from '../../src/jobs/repository/repository-keeper.ts';
import { chainResource, ResourceLocks } from '../../src/jobs/resource-locks.ts';
import { Tally } from '../../src/jobs/verify/record-outcome.ts';
import { type MachineScope, type VerifyRun, verifyMachine } from '../../src/jobs/verify/verify-machine.ts';
import { settlingDeps } from '../../src/main/wiring/wire-chains.ts';
import { DigestPool } from '../../src/nbd/mover/digest-pool.ts';
import { RowWriter } from '../../src/nbd/mover/rows/rows.ts';
import { ChainViews } from '../../src/repository/verify/chain-views.ts';
import { SLOTS } from '../../src/repository/verify/inspect-view.ts';
import { paceOf } from '../../src/repository/verify/pace.ts';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { seededRandom } from '../support/seeded-random.ts';

const MIB = 1024 * 1024;
const CLUSTER = 65_536;
const OFFSET_MASK = 0x00fffffffffffe00n;
const logger = pino({ level: 'silent' });

const work = mkdtempSync(join(tmpdir(), 'sd-flip-'));
const pristine = join(work, 'pristine');
const repository = join(work, 'repository');
const at = (name: string) => join(work, name);

interface Point {
  readonly id: string;
  readonly vmUuid: string;
  readonly layer: string;
  /** What the disk was. */
  readonly raw: string;
}
const points: Point[] = [];
const appliance = new TestAppliance();
let views: ChainViews;
let pool: DigestPool;
let catalog: Catalog;
let keeper: RepositoryKeeper;
let repositories: Repositories;

const folderOf = (point: Point) => join(repository, point.vmUuid, 'disk-0');
const fileOf = (point: Point, ending = 'qcow2') =>
  join(folderOf(point), point.layer.replace(/qcow2$/, ending));
const manifestOf = (point: Point) => join(repository, point.vmUuid, 'backups', `${point.id}.json`);
const pointAt = (index: number): Point => {
  const point = points[index];
  if (!point) throw new Error(`no point ${index}`);
  return point;
};

beforeAll(async () => {
  writeFileSync(at('m'), bytesOf('m', 2 * MIB));
  truncateSync(at('m'), 5 * MIB + 512);
  writeFileSync(at('n'), bytesOf('n', 2 * MIB));
  truncateSync(at('n'), 5 * MIB + 512);
  await appliance.start(['exports.backend=storage-daemon']);
  const backUp = (vm: string) => {
    interface Answer {
      backup_id: string;
      disks: { layer: string }[];
    }
    const made = appliance.json<Answer>('backup', 'start', '--vm', vm, '--wait');
    const raw = at(made.backup_id);
    cpSync(at(vm), raw);
    const vmUuid = appliance.json<{ vm_uuid: string }>('vm', 'show', vm).vm_uuid;
    points.push({ id: made.backup_id, vmUuid, layer: made.disks[0]?.layer ?? '', raw });
  };
  for (const vm of ['m', 'n']) {
    appliance.json('vm', 'add', vm, '--disk', at(vm));
    backUp(vm);
    const file = openSync(at(vm), 'r+');
    writeSync(file, bytesOf(`${vm} changed`, 100_000), 0, 100_000, MIB + 30_000);
    writeSync(file, bytesOf(`${vm} more`, 5000), 0, 5000, 4 * MIB);
    closeSync(file);
    backUp(vm);
  }
  await appliance.stop();
  cpSync(join(appliance.home, 'backups'), pristine, { recursive: true });
  pool = new DigestPool(SLOTS, 1);
  views = await ChainViews.start({ logger, runFolder: work, isIdle: false });
});
afterAll(async () => {
  await views?.[Symbol.asyncDispose]();
  await pool?.[Symbol.asyncDispose]();
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

beforeEach(async () => {
  cpSync(pristine, repository, { recursive: true, preserveTimestamps: true });
  catalog = createCatalog(at('catalog.db'), clock, logger);
  keeper = new RepositoryKeeper({
    catalog,
    clock,
    locks: new ResourceLocks(),
    home: work,
    settling: settlingDeps({ runFolder: work }, logger, () => undefined),
  });
  await keeper.openAll(repository);
  repositories = keeper.repositories;
  await repositories.firstLooks();
});
afterEach(async () => {
  await keeper.closeAll();
  catalog[Symbol.dispose]();
  for (const name of readdirSync(work).filter((file) => file.startsWith('catalog.db'))) rmSync(at(name));
  rmSync(repository, { recursive: true, force: true });
});

/** Verifies one machine. @returns what is told, one line for each place */
async function findings(vmUuid: string, only: readonly string[] | null = null): Promise<string[]> {
  const tally = new Tally();
  const scope = {
    ...scopeOf(vmUuid),
    ...(only === null ? {} : { backupIds: new Set(only), depth: 'all' as const }),
  };
  try {
    await verifyMachine(runWith(tally, new ResourceLocks()), scope);
  } catch (error) {
    return [messageOf(error)];
  }
  return tally.places.map(({ backupId, layer, code, detail }) => [code, backupId, layer, detail].join(' '));
}

function scopeOf(vmUuid: string): MachineScope {
  const vm = catalog.vms.all().find((candidate) => candidate.vmUuid === vmUuid);
  if (!vm) throw new Error('the machine is not known');
  return { vm, repository: repositories.byName('local'), backupIds: null, depth: 'own' };
}

function runWith(tally: Tally, locks: ResourceLocks): VerifyRun {
  return {
    catalog,
    clock,
    tally,
    views,
    pool,
    clear: false,
    warn: () => undefined,
    pace: paceOf(null),
    locks,
    holder: 'a test',
    signal: new AbortController().signal,
    onProgress: () => undefined,
    onPoint: () => undefined,
  };
}

/** The restore points of a machine as qemu-img alone reads them are what the disk was. */
function expectWhole(vmUuid: string): void {
  for (const point of points.filter((candidate) => candidate.vmUuid === vmUuid))
    sh('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', fileOf(point), point.raw);
}

/** Nobody is harmed, or it is told and the file is named. */
async function expectFoundOrHarmless(path: string, vmUuid: string): Promise<'found' | 'harmless'> {
  const found = await findings(vmUuid);
  if (found.length === 0) {
    expectWhole(vmUuid);
    return 'harmless';
  }
  const stem = basename(path).replace(/\.(qcow2|json|blocks\.json\.zst)$/, '');
  expect(found.join('\n')).toContain(stem === 'repository' ? repository : stem);
  return 'found';
}

function flip(path: string, offset: number, bit = 0): void {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  expect(readSync(file, byte, 0, 1, offset)).toBe(1);
  writeSync(file, Buffer.from([(byte[0] ?? 0) ^ (1 << bit)]), 0, 1, offset);
  closeSync(file);
}

/** Places inside a qcow2 file, found by its own header and tables. */
function anatomyOf(path: string) {
  const bytes = readFileSync(path);
  const entry = (offset: number) => Number(bytes.readBigUInt64BE(offset) & OFFSET_MASK);
  const l1 = entry(40);
  const l2 = entry(l1);
  const refcountTable = entry(48);
  const refcountBlock = entry(refcountTable);
  const used = Array.from({ length: CLUSTER / 8 }, (_, index) => l2 + index * 8).filter(
    (place) => entry(place) > 0,
  );
  const [firstUsed = 0] = used;
  const firstUnused =
    Array.from({ length: 80 }, (_, index) => l2 + index * 8).find((place) => entry(place) === 0) ?? 0;
  return { bytes, l1, l2, refcountTable, refcountBlock, firstUsed, firstUnused, data: entry(firstUsed) };
}

it('finds nothing wrong with what is as it was', async () => {
  for (const point of points) {
    expect(await findings(point.vmUuid)).toEqual([]);
    expectWhole(point.vmUuid);
  }
});

const layers: [string, number][] = [
  ['a full', 0],
  ['an incremental', 1],
];

describe.each(layers)('a bit that flips in the header of %s', (_which, index) => {
  it.each<[string, number, number]>([
    ['the magic', 0, 0],
    ['the version', 7, 0],
    ['the version', 7, 1],
    ['the offset of the backing name', 15, 3],
    ['the length of the backing name', 19, 0],
    ['the cluster size', 23, 0],
    ['the virtual size', 31, 0],
    ['the virtual size', 30, 1],
    ['the virtual size', 28, 3],
    ['the encryption', 35, 0],
    ['the entries of L1', 39, 0],
    ['the entries of L1', 38, 0],
    ['the offset of L1', 45, 0],
    ['the offset of L1', 46, 0],
    ['the offset of the refcount table', 53, 0],
    ['the clusters of the refcount table', 59, 0],
    ['the clusters of the refcount table', 59, 1],
    ['the number of snapshots', 63, 0],
    ['the offset of the snapshots', 70, 0],
    ['the features: dirty', 79, 0],
    ['the features: corrupt', 79, 1],
    ['the features: external data', 79, 2],
    ['the features: compression', 79, 3],
    ['the features: extended L2', 79, 4],
    ['the features: unknown', 78, 0],
    ['the compatible features', 87, 0],
    ['the autoclear features', 95, 0],
    ['the refcount order', 99, 0],
    ['the refcount order', 99, 2],
    ['the length of the header', 103, 3],
    ['the compression type', 104, 0],
    ['the type of the first extension', 112, 0],
    ['the length of the first extension', 119, 0],
    ['the content of the first extension', 121, 0],
  ])('in %s (byte %i, bit %i) is found or harmless', async (_what, offset, bit) => {
    const point = pointAt(index);
    flip(fileOf(point), offset, bit);
    await expectFoundOrHarmless(fileOf(point), point.vmUuid);
  });

  it('in the backing name is found', async () => {
    const point = pointAt(1);
    const { bytes } = anatomyOf(fileOf(point));
    flip(fileOf(point), Number(bytes.readBigUInt64BE(8)) + 7);
    expect(await expectFoundOrHarmless(fileOf(point), point.vmUuid)).toBe('found');
  });
});

describe.each(layers)('a bit that flips in the tables of %s', (_which, index) => {
  type Anatomy = ReturnType<typeof anatomyOf>;
  it.each<[string, (parts: Anatomy) => number, number, 'found' | 'any']>([
    ['the L1 entry, its offset', ({ l1 }) => l1 + 5, 0, 'found'],
    ['the L1 entry, below a cluster', ({ l1 }) => l1 + 6, 3, 'found'],
    ['the L1 entry, its copied flag', ({ l1 }) => l1, 7, 'any'],
    ['the L1 entry, a reserved bit', ({ l1 }) => l1, 0, 'any'],
    ['an L2 entry, its offset', ({ firstUsed }) => firstUsed + 5, 0, 'found'],
    ['an L2 entry, far behind the end', ({ firstUsed }) => firstUsed + 2, 0, 'found'],
    ['an L2 entry, below a cluster', ({ firstUsed }) => firstUsed + 6, 2, 'found'],
    ['an L2 entry, "zeros"', ({ firstUsed }) => firstUsed + 7, 0, 'found'],
    ['an L2 entry, "compressed"', ({ firstUsed }) => firstUsed, 6, 'found'],
    ['an L2 entry, its copied flag', ({ firstUsed }) => firstUsed, 7, 'any'],
    ['an unused L2 entry, its offset', ({ firstUnused }) => firstUnused + 5, 0, 'found'],
    ['an unused L2 entry, "zeros"', ({ firstUnused }) => firstUnused + 7, 0, 'any'],
    ['an unused L2 entry, "compressed"', ({ firstUnused }) => firstUnused, 6, 'any'],
    ['the refcount table', ({ refcountTable }) => refcountTable + 5, 0, 'found'],
    ['the refcount table, below a cluster', ({ refcountTable }) => refcountTable + 6, 1, 'found'],
    ['the refcount of the header', ({ refcountBlock }) => refcountBlock + 1, 0, 'any'],
    ['the refcount of data', ({ refcountBlock, data }) => refcountBlock + (data / CLUSTER) * 2 + 1, 0, 'any'],
    ['the refcount of L2', ({ refcountBlock, l2 }) => refcountBlock + (l2 / CLUSTER) * 2 + 1, 1, 'any'],
    ['the refcount of nothing', ({ refcountBlock }) => refcountBlock + 20_001, 0, 'any'],
    ['data, its first byte', ({ data }) => data, 7, 'found'],
    ['data, its last byte', ({ data }) => data + CLUSTER - 1, 0, 'found'],
  ])('in %s is told', async (_what, place, bit, expected) => {
    const point = pointAt(index);
    flip(fileOf(point), place(anatomyOf(fileOf(point))), bit);
    const outcome = await expectFoundOrHarmless(fileOf(point), point.vmUuid);
    if (expected === 'found') expect(outcome).toBe('found');
  });
});

describe('any bit', () => {
  const kinds: [string, (point: Point) => string, number][] = [
    ['a layer', (point) => fileOf(point), 30],
    ['a row file', (point) => fileOf(point, 'blocks.json.zst'), 30],
    ['a sidecar', (point) => fileOf(point, 'json'), 40],
    ['a manifest', manifestOf, 40],
    ['the description of a machine', (point) => join(repository, point.vmUuid, 'vm.json'), 25],
    ['the description of the repository', () => join(repository, 'repository.json'), 15],
  ];
  const cases = kinds.flatMap(([kind, path, count]) =>
    Array.from({ length: count }, (_, seed): [string, number, (point: Point) => string] => [
      kind,
      seed,
      path,
    ]),
  );
  it.each(cases)('that flips in %s is found or harmless (seed %i)', async (kind, seed, path) => {
    const random = seededRandom(seed * 1000 + kind.length);
    const point = pointAt(random.below(2));
    const file = path(point);
    flip(file, random.below(statSync(file).size), random.below(8));
    const outcome = await expectFoundOrHarmless(file, point.vmUuid);
    if (kind === 'a row file') expect(outcome).toBe('found');
  });
});

describe('a file that lost its end', () => {
  const files: [string, (point: Point) => string][] = [
    ['a layer', (point) => fileOf(point)],
    ['a row file', (point) => fileOf(point, 'blocks.json.zst')],
    ['a sidecar', (point) => fileOf(point, 'json')],
    ['a manifest', manifestOf],
    ['the description of a machine', (point) => join(repository, point.vmUuid, 'vm.json')],
    ['the description of the repository', () => join(repository, 'repository.json')],
  ];
  const cuts: [string, (size: number) => number][] = [
    ['a few bytes', (size) => size - 3],
    ['its half', (size) => Math.floor(size / 2)],
    ['everything', () => 0],
  ];
  const cases = files.flatMap(([kind, path]) =>
    [0, 1].flatMap((index) =>
      cuts.map(([how, cut]): [string, string, number, (point: Point) => string, (size: number) => number] => [
        kind,
        how,
        index,
        path,
        cut,
      ]),
    ),
  );
  it.each(cases)('is found: %s without %s (point %i)', async (_kind, _how, index, path, cut) => {
    const point = pointAt(index);
    const file = path(point);
    truncateSync(file, cut(statSync(file).size));
    expect(await expectFoundOrHarmless(file, point.vmUuid)).toBe('found');
  });

  it('is found also when it is longer than it was', async () => {
    const point = pointAt(0);
    writeFileSync(fileOf(point), 'more', { flag: 'a' });
    expect(await expectFoundOrHarmless(fileOf(point), point.vmUuid)).toBe('found');
  });
});

describe('a file that is not there', () => {
  it.each<[string, (point: Point) => string]>([
    ['a layer', (point) => fileOf(point)],
    ['a row file', (point) => fileOf(point, 'blocks.json.zst')],
    ['a sidecar', (point) => fileOf(point, 'json')],
    ['a manifest', manifestOf],
    ['the description of a machine', (point) => join(repository, point.vmUuid, 'vm.json')],
  ])('is found: %s', async (_kind, path) => {
    for (const index of [0, 1]) {
      const point = pointAt(index);
      const file = path(point);
      const content = readFileSync(file);
      rmSync(file);
      expect(await expectFoundOrHarmless(file, point.vmUuid)).toBe('found');
      writeFileSync(file, content);
    }
  });
});

describe('a pair of files that changed places between two machines', () => {
  const swap = (one: string, other: string) => {
    renameSync(one, `${one}.held`);
    renameSync(other, one);
    renameSync(`${one}.held`, other);
  };
  it.each<[string, readonly string[]]>([
    ['their layers', ['qcow2']],
    ['their row files', ['blocks.json.zst']],
    ['their layers and row files', ['qcow2', 'blocks.json.zst']],
    ['their layers, row files and sidecars', ['qcow2', 'blocks.json.zst', 'json']],
  ])('is found: %s', async (_what, endings) => {
    // as if both had been made in the same second
    const [mine, foreign] = [pointAt(0), pointAt(2)];
    for (const ending of endings) swap(fileOf(mine, ending), fileOf(foreign, ending));
    if (endings.includes('json'))
      for (const point of [mine, foreign]) {
        const sidecar = JSON.parse(readFileSync(fileOf(point, 'json'), 'utf8')) as { layer: string };
        writeFileSync(fileOf(point, 'json'), JSON.stringify({ ...sidecar, layer: point.layer }));
      }
    for (const point of [mine, foreign])
      expect(await expectFoundOrHarmless(fileOf(point), point.vmUuid)).toBe('found');
  });
});

it('finds every one of many places, each block once', async () => {
  const point = pointAt(0);
  const { bytes, l2 } = anatomyOf(fileOf(point));
  for (let cluster = 0; cluster < (2 * MIB) / CLUSTER; cluster += 3)
    flip(fileOf(point), Number(bytes.readBigUInt64BE(l2 + cluster * 8) & OFFSET_MASK) + cluster);
  const found = await findings(point.vmUuid);
  expect(found).toHaveLength(2);
  expect(found.filter((line) => line.startsWith(`LAYER_CORRUPT ${point.id} ${point.layer} `))).toHaveLength(
    2,
  );
});

describe('a layer that no restore point names any more', () => {
  let retired: Point;
  let above: Point;
  beforeEach(() => {
    retired = pointAt(0);
    above = pointAt(1);
    renameSync(manifestOf(retired), manifestOf(retired).replace(/json$/, 'deleted'));
    catalog.backups.remove(retired.id);
  });
  const guestPlace = (offset: number) => {
    const { bytes, l2 } = anatomyOf(fileOf(retired));
    const entry = l2 + Math.floor(offset / CLUSTER) * 8;
    return Number(bytes.readBigUInt64BE(entry) & OFFSET_MASK) + (offset % CLUSTER);
  };
  const isWhole = () => sh('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', fileOf(above), above.raw);

  it('is judged by what shows of it', async () => {
    expect(await findings(above.vmUuid)).toEqual([]);
    // the layer above holds this cluster itself
    flip(fileOf(retired), guestPlace(MIB + 70_000));
    expect(await findings(above.vmUuid)).toEqual([]);
    isWhole();
  });

  it('is told when the fault shows', async () => {
    flip(fileOf(retired), guestPlace(5000));
    expect((await findings(above.vmUuid)).join()).toMatch(
      new RegExp(`${above.id} ${retired.layer} .*digest`),
    );
    expect(isWhole).toThrow();
  });
});

describe('a row that is partly hidden by a smaller one of a newer layer', () => {
  /** As a source that tells exact changes would have written the rows of the incremental. */
  beforeEach(async () => {
    const point = pointAt(1);
    const raw = readFileSync(point.raw);
    const rows = new RowWriter(fileOf(point, 'blocks.json.zst'));
    for (const [offset, size] of [
      [MIB, 2 * CLUSTER],
      [4 * MIB, 8192],
    ] as const)
      await rows.write({ offset, size, b3: blake3(raw.subarray(offset, offset + size)).toString('hex') });
    await rows.close();
    const sidecar = JSON.parse(readFileSync(fileOf(point, 'json'), 'utf8')) as object;
    const rowsDigest = blake3(readFileSync(fileOf(point, 'blocks.json.zst'))).toString('hex');
    writeFileSync(fileOf(point, 'json'), JSON.stringify({ ...sidecar, rows_b3: rowsDigest }));
  });

  it('is compared at its own layer, and with what is seen above it', async () => {
    const [full, point] = [pointAt(0), pointAt(1)];
    expect(await findings(point.vmUuid)).toEqual([]);
    expect(await findings(point.vmUuid, [point.id])).toEqual([]);
    const { bytes, l2 } = anatomyOf(fileOf(full));
    const entry = l2 + ((MIB + 3 * CLUSTER) / CLUSTER) * 8;
    flip(fileOf(full), Number(bytes.readBigUInt64BE(entry) & OFFSET_MASK));
    expect((await findings(point.vmUuid, [point.id])).join()).toContain(
      `${full.layer} its content has another digest`,
    );
  });

  it('does not hide what a newer layer holds beside its rows', async () => {
    const point = pointAt(1);
    const { l2 } = anatomyOf(fileOf(point));
    // "reads as zeros" for a cluster of the full
    flip(fileOf(point), l2 + ((MIB + 3 * CLUSTER) / CLUSTER) * 8 + 7);
    for (const only of [null, [point.id]])
      expect((await findings(point.vmUuid, only)).join()).toContain(
        `${point.layer} it differs from the layer below`,
      );
  });
});

it('lets somebody who wants the chain alone go first, and then reads the rest', async () => {
  const { vmUuid } = pointAt(0);
  const scope = scopeOf(vmUuid);
  const tally = new Tally();
  const locks = new ResourceLocks();
  const request = {
    resource: chainResource(scope.repository.id, scope.vm.contextId),
    exclusive: true,
    busy: (holder: string) => new SendenseError('INTERNAL', { detail: `${holder} does not give way` }),
  };
  let isAlone = false;
  let taken = 0;
  let merging: Promise<void> | null = null;
  const merge = async () => {
    const release = await locks.acquireSoon('a merge', [request]);
    isAlone = true;
    await sleep(600);
    isAlone = false;
    release();
  };
  const run = runWith(tally, locks);
  await verifyMachine(
    {
      ...run,
      pace: {
        take: async () => {
          expect(isAlone).toBe(false);
          taken += 1;
          if (taken === 2) merging = merge();
        },
      },
    },
    scope,
  );
  await merging;
  expect(taken).toBeGreaterThan(4);
  expect(tally).toMatchObject({ checked: 2, bad: 0, placesTotal: 0 });
  expect(() => locks.acquire('anybody', [request])()).not.toThrow();
});
