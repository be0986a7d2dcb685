import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sweepMounts } from '../../src/restore/mount/sweep-mounts.ts';
import { Bench, sha256, tool } from './restore-fixtures.ts';

/** Opens a mount in a process of its own, then kills it and its storage daemon as a power cut would. */
async function leaveMount(bench: Bench, request: object): Promise<void> {
  const source = new URL('../../src/restore/mount/open-mount.ts', import.meta.url).href;
  const work = new URL('../../src/mountd/privileged/local-work.ts', import.meta.url).href;
  const settings = {
    baseFolder: bench.mountFolder,
    imageFolder: join(bench.runFolder, 'mounts'),
    uid: 0,
    gid: 0,
    exposeFolders: null,
  };
  const deps = {
    runFolder: bench.runFolder,
    mountFolder: bench.mountFolder,
    vmFolder: bench.deps().vmFolder,
    kvmFile: bench.deps().kvmFile,
    volumesFile: bench.deps().volumesFile,
    hasPrivileges: true,
    mode: 'loop',
    overlayLimitBytes: 2 ** 28,
  };
  const script = `import { openMount } from ${JSON.stringify(source)};
    import { localWork } from ${JSON.stringify(work)};
    const logger = { error() {}, warn() {}, info() {} };
    await openMount({ ...${JSON.stringify(deps)}, logger, work: localWork(${JSON.stringify(settings)}) }, ${JSON.stringify(request)});
    console.log('open'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('exit', reject);
  });
  child.removeAllListeners('exit');
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  for (const pid of bench.pids()) process.kill(pid, 'SIGKILL');
  await expect.poll(() => bench.pids()).toEqual([]);
}

test('what a killed daemon left is removed, a bystander is not', async () => {
  await using bench = new Bench();
  const layer = bench.full(
    bench.filesystem('a.img', 'ext4', (folder) => writeFileSync(join(folder, 'a'), 'x')),
  );
  const before = sha256(layer);
  // the same kind of things, not ours
  const foreign = bench.path('foreign');
  mkdirSync(foreign);
  tool('mount', '-o', 'loop,ro', bench.path('a.img'), foreign);
  mkdirSync(bench.path('with blank'));
  const disks = [0, 1].map((diskIndex) => ({ diskIndex, chain: [layer] }));
  await leaveMount(bench, { mountId: 'old-1', disks, exposeAt: bench.path('with blank') });
  await leaveMount(bench, { mountId: 'old-2', disks: [disks[0]], exposeAt: bench.path('shown') });
  expect(bench.leftovers().length).toBeGreaterThan(8);

  const result = await sweepMounts(bench.deps());
  expect(result).toEqual({ mounts: 9, devices: 3, folders: 2 });
  const left = bench.leftovers();
  expect(left).toHaveLength(2);
  for (const line of left) expect(line).toMatch(/foreign|a\.img/);
  expect(readFileSync(join(foreign, 'a'), 'utf8')).toBe('x');
  expect(existsSync(bench.path('shown'))).toBe(false);
  expect(readdirSync(bench.path('with blank'))).toEqual([]);
  expect(sha256(layer)).toBe(before);
  expect(await sweepMounts(bench.deps())).toEqual({ mounts: 0, devices: 0, folders: 0 });
});

test('a lost storage daemon is noticed, and the mount can still be closed', async () => {
  await using bench = new Bench();
  const layer = bench.full(
    bench.filesystem('a.img', 'ext4', (folder) => writeFileSync(join(folder, 'a'), 'x')),
  );
  const mount = await bench.open({
    mountId: 'm',
    disks: [{ diskIndex: 0, chain: [layer] }],
    exposeAt: null,
  });
  for (const pid of bench.pids()) process.kill(pid, 'SIGKILL');
  await expect.poll(() => mount.isLost()).toBe(true);
  await mount.close({ force: true });
  await expect.poll(() => bench.leftovers()).toEqual([]);
});
