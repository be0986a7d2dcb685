import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createLogger } from '../../src/base/logger.ts';
import { SendenseError } from '../../src/base/sendense-error.ts';
import { type Catalog, createCatalog } from '../../src/catalog/catalog.ts';
import { RepositoryKeeper } from '../../src/jobs/repository/repository-keeper.ts';
import { chainResource, ResourceLocks } from '../../src/jobs/resource-locks.ts';

const logger = createLogger('silent');
let work: string;
let root: string;
let catalog: Catalog;
let locks: ResourceLocks;
let keeper: RepositoryKeeper;

beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'sd-scan-'));
  root = join(work, 'backups');
  catalog = createCatalog(join(work, 'catalog.db'), systemClock, logger);
});
afterEach(async () => {
  await keeper.closeAll();
  catalog[Symbol.dispose]();
  rmSync(work, { recursive: true, force: true });
});

function build(): RepositoryKeeper {
  locks = new ResourceLocks();
  const control = {
    workFolder: join(work, 'run'),
    rateBytes: null,
    onProgress: () => undefined,
    signal: new AbortController().signal,
  };
  const settling = { logger, onStep: () => undefined, control };
  return new RepositoryKeeper({ catalog, clock: systemClock, locks, settling, home: work });
}
async function open(): Promise<void> {
  keeper = build();
  await keeper.openAll(root);
  await keeper.repositories.firstLooks();
}
async function reopen(): Promise<void> {
  await keeper.closeAll();
  await open();
}

const uuid = (machine: number) => `00000000-0000-4000-8000-${String(machine).padStart(12, '0')}`;
const idOf = (machine: number, point: number) => `backup-m${machine}-2026010${point}000000`;
const fileOf = (machine: number, point: number) =>
  join(root, uuid(machine), 'backups', `${idOf(machine, point)}.json`);

/** As a backup would have written it; without its layers, which nobody reads here. */
function publish(machine: number, point: number, consistency = 'crash'): void {
  const folder = join(root, uuid(machine));
  mkdirSync(join(folder, 'backups'), { recursive: true });
  mkdirSync(join(folder, 'disk-0'), { recursive: true });
  const common = { format: 1, vm_uuid: uuid(machine), vm_name: `m${machine}`, context_id: `ctx-m${machine}` };
  const disks = [{ disk_index: 0, key: '/srv/a', format: 'raw' }];
  writeFileSync(join(folder, 'vm.json'), JSON.stringify({ ...common, source_kind: 'image', disks }));
  const manifest = {
    ...common,
    backup_id: idOf(machine, point),
    job_id: 'job-1',
    requested_type: 'full',
    consistency,
    created_at: `2026-01-0${point}T00:00:00.000Z`,
    completed_at: `2026-01-0${point}T00:00:01.000Z`,
    disks: [
      {
        ...{ disk_index: 0, disk_key: '/srv/a', type: 'full', reason: null },
        ...{ layer: `full-2026010${point}-000000.qcow2`, parent_layer: null, parent_backup_id: null },
        ...{ virtual_size_bytes: 512, written_bytes: 512, file_bytes: 1000 },
      },
    ],
  };
  writeFileSync(fileOf(machine, point), JSON.stringify(manifest));
}
const known = () =>
  catalog.backups.list({ limit: -1 }).map(({ id, consistency }) => [id, consistency] as const);

it('takes everything in when the catalogue is new, and finds what it missed at the next start', async () => {
  await open();
  expect(known()).toEqual([]);
  publish(1, 1);
  publish(2, 1);
  await reopen();
  expect(known().map(([id]) => id)).toEqual([idOf(2, 1), idOf(1, 1)]);
  // the daemon died between the manifest and the catalogue
  publish(1, 2);
  await reopen();
  expect(known().map(([id]) => id)).toEqual([idOf(1, 2), idOf(2, 1), idOf(1, 1)]);
  expect(catalog.chains.ofVm('ctx-m1')).toHaveLength(2);
});

it('reads no manifest again unless somebody else was there', async () => {
  await open();
  publish(1, 1);
  await reopen();
  publish(1, 1, 'application');
  await reopen();
  expect(known()).toEqual([[idOf(1, 1), 'crash']]);
  const lock = JSON.parse(readFileSync(join(root, '.lock.json'), 'utf8')) as { token: string };
  writeFileSync(join(root, '.lock.json'), JSON.stringify({ ...lock, token: uuid(9) }));
  // layers are taken over from what is known already, and what is not known is new
  catalog.backups.remove(idOf(1, 1));
  await reopen();
  expect(known()).toEqual([[idOf(1, 1), 'application']]);
});

it('ends a deletion that got no further than its tombstone', async () => {
  await open();
  publish(1, 1);
  publish(1, 2);
  await reopen();
  renameSync(fileOf(1, 1), fileOf(1, 1).replace('.json', '.deleted'));
  await reopen();
  expect(known().map(([id]) => id)).toEqual([idOf(1, 2)]);
  expect(catalog.chains.ofVm('ctx-m1')).toHaveLength(1);
});

it('lets nobody at a chain before its machine was looked at, and takes the one first that is asked for', async () => {
  await open();
  for (let machine = 1; machine <= 40; machine += 1) publish(machine, 1);
  await reopen();
  await keeper.closeAll();
  for (let machine = 1; machine <= 40; machine += 1) publish(machine, 2);
  keeper = build();
  const opening = keeper.openAll(root);
  await expect.poll(() => keeper.repositories.all().length, { interval: 0 }).toBe(1);
  const [repository] = keeper.repositories.all();
  const resource = chainResource(repository?.id ?? '', 'ctx-m40');
  const busy = (holder: string) => new SendenseError('CHAIN_BUSY', { vm: 'm40', holder });
  const release = await locks.acquireSoon('a test', [{ resource, exclusive: false, busy }]);
  expect(catalog.backups.byId(idOf(40, 2))).not.toBeNull();
  expect(catalog.backups.byId(idOf(39, 2)), 'the others still wait').toBeNull();
  release();
  await opening;
  await expect.poll(() => known().length).toBe(80);
});
