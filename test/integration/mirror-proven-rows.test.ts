import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { MirrorIndex } from '../../src/catalog/mirrors/mirror-index.ts';
import { KeyRing } from '../../src/mirror/crypto/key-ring.ts';
import type { Mirror } from '../../src/mirror/mirror.ts';
import { claimMirror } from '../../src/mirror/owner.ts';
import { listPointNames, openPointChain } from '../../src/mirror/points/read-point.ts';
import { BlockCache } from '../../src/mirror/read/block-cache.ts';
import { MirrorDisk } from '../../src/mirror/read/mirror-disk.ts';
import { Pacer } from '../../src/mirror/store/pacer.ts';
import { syncBackup } from '../../src/mirror/upload/sync-backup.ts';
import { noSyncProgress } from '../../src/mirror/upload/sync-progress.ts';
import { RowWriter } from '../../src/nbd/mover/rows/rows.ts';
import { serveExports } from '../../src/nbd/serve/serve-export.ts';
import { Bucket, MemoryStore, memoryCapabilities } from '../support/memory-store.ts';

const KIB = 1024;
const SIZE = 256 * KIB;
const ID = '33333333-3333-4333-8333-333333333333';
const work = mkdtempSync(join(tmpdir(), 'sd-proven-'));
const socketPath = join(work, 's');
/** The older layer has rows of 64 KiB; the newer one hides the middle of the second. */
const older = Buffer.alloc(SIZE);
const newer = Buffer.alloc(SIZE);
let stop = async () => {};
let count = 0;

beforeAll(async () => {
  stop = await serveExports(
    socketPath,
    [older, newer].map((content, layer) => ({
      name: `layer${layer}`,
      sizeBytes: SIZE,
      read: async (offset, into) => void content.copy(into, 0, offset, offset + into.length),
    })),
  );
});
afterAll(async () => {
  await stop();
  rmSync(work, { recursive: true, force: true });
});

const digest = (content: Buffer) => blake3(content).toString('hex');

beforeEach(async () => {
  for (let at = 0; at < SIZE; at += KIB) older.fill(1 + ((at / KIB) % 200), at, at + KIB);
  older.copy(newer);
  newer.fill(255, 80 * KIB, 96 * KIB);
  count += 1;
  const rows = new RowWriter(join(work, `older${count}`));
  for (let offset = 0; offset < SIZE; offset += 64 * KIB)
    await rows.write({ offset, size: 64 * KIB, b3: digest(older.subarray(offset, offset + 64 * KIB)) });
  await rows.close();
  const changed = new RowWriter(join(work, `newer${count}`));
  await changed.write({
    ...{ offset: 80 * KIB, size: 16 * KIB },
    b3: digest(newer.subarray(80 * KIB, 96 * KIB)),
  });
  await changed.close();
});

async function upload(mode: 'packed' | 'plain') {
  const bucket = new Bucket();
  const store = new MemoryStore(bucket, async () => undefined);
  const keys = new KeyRing(ID, null);
  const mirror: Mirror = { store, keys, mirrorId: ID, mode, blockBytes: 64 * KIB, place: 'here' };
  const claim = { store, capabilities: memoryCapabilities, place: 'here', applianceId: ID };
  const writer = { applianceId: ID, epoch: await claimMirror(claim, false) };
  using index = new MirrorIndex(join(work, `index${mode}${count}`), ID);
  const layer = (name: string, number: number) => ({
    ...{
      rows: join(work, `${name}${count}`),
      point: `backup-m-${number}-disk0`,
      exportName: `layer${number}`,
    },
  });
  await syncBackup(
    {
      ...{ mirror, index, writer, level: 0, retention: undefined, progress: noSyncProgress() },
      pacer: new Pacer({ mibPerSecond: null, windows: [] }),
      signal: new AbortController().signal,
      damaged: new Set<string>(),
    },
    {
      backupId: 'backup-m-1',
      vm: { vm_uuid: ID, vm_name: 'm', context_id: 'ctx-m' },
      createdAt: '2026-01-01T00:00:00.000Z',
      ...{ manifest: {}, machine: {} },
      disks: [
        {
          ...{ point: 'backup-m-1-disk0', diskIndex: 0, sizeBytes: SIZE, sidecar: {}, socketPath },
          layers: [layer('newer', 1), layer('older', 0)],
        },
      ],
    },
  );
  return mirror;
}

it.each(['packed', 'plain'] as const)(
  'what is hidden in part arrives as the guest saw it (%s)',
  async (mode) => {
    const mirror = await upload(mode);
    const [name] = await listPointNames(mirror);
    const points = await openPointChain(mirror, name ?? '');
    const read = Buffer.alloc(SIZE);
    await new MirrorDisk(mirror, 'd', points, new BlockCache(1e6)).read(0, read);
    expect(read.equals(newer)).toBe(true);
  },
  20_000,
);

it.each([
  ['packed', 70],
  ['packed', 120],
  ['plain', 70],
  ['plain', 120],
  ['plain', 130],
] as const)(
  'rot in the part that is still seen never gets into a mirror (%s, byte %i KiB)',
  async (mode, at) => {
    // both show it: the older layer is the file that rotted
    older.fill(0, at * KIB, at * KIB + 1);
    newer.fill(0, at * KIB, at * KIB + 1);
    await expect(upload(mode)).rejects.toMatchObject({ code: 'LAYER_CORRUPT' });
  },
  20_000,
);
