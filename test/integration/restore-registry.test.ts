import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { SendenseError } from '../../src/base/sendense-error.ts';
import { openDownload } from '../../src/restore/browse/download.ts';
import { MountRegistry, type MountRegistryDeps } from '../../src/restore/mount/mount-registry.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { Bench, openFds } from './restore-fixtures.ts';

const HOUR = 3600_000;

/** A registry over mounts that only count, and a clock to push. */
function setUp(bench: Bench, changes: Partial<MountRegistryDeps> = {}) {
  const events: string[] = [];
  const state = { nowMs: 0, isBusy: false, isLost: false };
  const opener = async (_deps: unknown, { mountId }: { mountId: string }): Promise<OpenMount> => {
    const close = async (options = { force: false }) => {
      await sleep(1);
      if (state.isBusy && !options.force)
        throw new SendenseError('MOUNT_BUSY', { mount: mountId, detail: 'test' });
      events.push('closed');
    };
    await sleep(1);
    return {
      mountId,
      mountPath: '/',
      mode: 'loop',
      filesystems: [],
      degraded: false,
      isLost: () => state.isLost,
      close,
      [Symbol.asyncDispose]: close,
    };
  };
  const registry = new MountRegistry({
    clock: { now: () => new Date(state.nowMs) },
    mountDeps: bench.deps(),
    max: 2,
    idleTimeoutMs: HOUR,
    opener,
    onOpened: (session) => void events.push(`opened ${session.backupId}`),
    onClosed: (session, reason) => void events.push(`${reason} ${session.backupId}`),
    ...changes,
  });
  return { registry, events, state };
}
const request = (backupId: string) => ({ backupId, disks: [], exposeAt: null });

test('an idle mount expires, one in use does not', async () => {
  await using bench = new Bench();
  const { registry, events, state } = setUp(bench);
  const a = await registry.open(request('a'));
  const b = await registry.open(request('b'));
  expect(a.expiresAt.getTime()).toBe(HOUR);
  state.nowMs = HOUR - 1;
  await registry.closeIdle();
  expect(registry.use(a.mountId).expiresAt.getTime()).toBe(2 * HOUR - 1);
  state.nowMs = HOUR;
  await registry.closeIdle();
  expect(registry.list().map(({ backupId }) => backupId)).toEqual(['a']);
  expect(() => registry.use(b.mountId)).toThrow(expect.objectContaining({ code: 'MOUNT_UNKNOWN' }));
  const hold = registry.hold(a.mountId);
  state.nowMs = 5 * HOUR;
  await registry.closeIdle();
  await expect(registry.close(a.mountId)).rejects.toMatchObject({ code: 'MOUNT_BUSY' });
  hold.release();
  hold.release();
  await registry.closeIdle();
  expect(registry.list()).toHaveLength(1);
  state.nowMs = 6 * HOUR;
  state.isBusy = true;
  await registry.closeIdle();
  expect(registry.list()).toHaveLength(1);
  state.isBusy = false;
  await registry.closeIdle();
  expect(events).toEqual(['opened a', 'opened b', 'closed', 'expired b', 'closed', 'expired a']);
  await registry.closeAll();
});

test('limit, removal, loss, shutdown', async () => {
  await using bench = new Bench();
  const { registry, events, state } = setUp(bench);
  const results = await Promise.allSettled(['a', 'b', 'c'].map((id) => registry.open(request(id))));
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected']);
  expect(results[2]).toMatchObject({ reason: { code: 'LIMIT_REACHED' } });
  const [a] = registry.list();
  await Promise.all([registry.close(a?.mountId ?? ''), registry.close(a?.mountId ?? '')]);
  await expect(registry.close('mount-none')).rejects.toMatchObject({ code: 'MOUNT_UNKNOWN' });
  state.isLost = true;
  await registry.closeIdle();
  expect(registry.list()).toEqual([]);
  state.isLost = false;
  state.isBusy = true;
  const opening = registry.open(request('d'));
  await registry.closeAll();
  await opening;
  await expect(registry.open(request('e'))).rejects.toMatchObject({ code: 'INTERRUPTED' });
  expect(events.filter((event) => event !== 'closed')).toEqual([
    'opened a',
    'opened b',
    'removed a',
    'lost b',
    'opened d',
    'shutdown d',
  ]);
});

test('a session that cannot be recorded is undone', async () => {
  await using bench = new Bench();
  const { registry, events } = setUp(bench, { onOpened: () => Promise.reject(new Error('catalogue')) });
  await expect(registry.open(request('a'))).rejects.toThrow('catalogue');
  expect([registry.list(), events]).toEqual([[], ['closed']]);
  await registry.closeAll();
});

test('a real mount: expires by itself, and not during a download', async () => {
  await using bench = new Bench();
  const image = bench.filesystem('a.img', 'ext4', (folder) => {
    mkdirSync(join(folder, 'd'));
    writeFileSync(join(folder, 'd/a'), Buffer.alloc(4_000_000, 7));
  });
  const before = openFds();
  const layer = bench.full(image);
  const closed: string[] = [];
  const registry = new MountRegistry({
    clock: { now: () => new Date() },
    mountDeps: bench.deps(),
    max: 2,
    idleTimeoutMs: 200,
    onOpened: () => undefined,
    onClosed: (_, reason) => void closed.push(reason),
  });
  const session = await registry.open({
    backupId: 'a',
    disks: [{ diskIndex: 0, chain: [layer] }],
    exposeAt: null,
  });
  {
    using hold = registry.hold(session.mountId);
    const download = await openDownload(hold.session.mount, '/d/a');
    if (download.kind !== 'file') throw new Error('a file was expected');
    let bytes = 0;
    for await (const chunk of download.pieces(0, download.size - 1)) {
      bytes += chunk.length;
      await sleep(150);
    }
    expect(bytes).toBe(4_000_000);
  }
  await expect.poll(() => closed, { timeout: 5000 }).toEqual(['expired']);
  expect(bench.leftovers()).toEqual([]);
  await registry.closeAll();
  await expect.poll(openFds).toBe(before);
});
