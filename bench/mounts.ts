/** What mounts cost: time to the first listing at depth 30, memory of many at once, and a download against a plain loop mount. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownerIdOf } from '../src/base/process/owned-processes.ts';
import { TestAppliance } from '../test/support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk, sh } from '../test/support/guest-disk.ts';
import { ask } from '../test/support/in-process-rest.ts';

const depth = Number(process.env['BENCH_DEPTH'] ?? 30);
const mountCount = Number(process.env['BENCH_MOUNTS'] ?? 50);
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 5);
const fileMib = 1024;
const work = mkdtempSync('/dev/shm/sd-bench-');
const disk = join(work, 'disk');
const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const say = (line: string) => process.stdout.write(`${line}\n`);
const timed = async (work_: () => unknown): Promise<number> => {
  const started = performance.now();
  await work_();
  return (performance.now() - started) / 1000;
};
const dropCaches = () => writeFileSync('/proc/sys/vm/drop_caches', '3');

const appliance = new TestAppliance();

/** KiB that belong to a process alone, and its share of what it has with others. */
function memoryKib(): number {
  const mark = `SENDENSE_OWNER=${ownerIdOf(appliance.home)}`;
  let sum = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const isOurs =
        readFileSync(`/proc/${pid}/environ`, 'utf8').includes(mark) ||
        readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(appliance.home);
      if (isOurs)
        sum += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
    } catch {
      // it ended while we looked
    }
  }
  return sum;
}

async function main(): Promise<void> {
  const slice = makePlainDisk(disk, fileMib + 200);
  insideDisk(disk, slice, (root) => {
    mkdirSync(join(root, 'etc'));
    for (let index = 0; index < fileMib; index += 64)
      writeFileSync(join(root, 'big'), bytesOf(`big ${index}`, 64 * 1024 * 1024), { flag: 'a' });
  });
  await appliance.start([`mounts.max=${Math.max(64, mountCount)}`, `chain.max_depth=${depth + 5}`]);
  appliance.json('vm', 'add', 'm', '--disk', disk);
  for (let index = 0; index < depth; index += 1) {
    if (index > 0)
      insideDisk(disk, slice, (root) =>
        writeFileSync(join(root, 'etc', `change-${index}`), bytesOf(`${index}`, 100_000)),
      );
    appliance.json(
      'backup',
      'start',
      '--vm',
      'm',
      ...(index === 0 ? [] : ['--type', 'incremental']),
      '--wait',
    );
  }
  const socket = join(appliance.home, 'run', 'sendensed.sock');
  const open = (mode: string) =>
    ask<{ mount_id: string }>(socket, 'POST', '/restore/mount', { backup_id: 'latest:m', mount_mode: mode });
  const close = (id: string) => ask(socket, 'DELETE', `/restore/${id}`);
  for (const mode of ['loop', 'userspace']) {
    const first: number[] = [];
    const speeds: number[] = [];
    const direct: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      let id = '';
      first.push(
        await timed(async () => {
          id = (await open(mode)).mount_id;
          await ask(socket, 'GET', `/restore/${id}/files?path=/etc`);
        }),
      );
      dropCaches();
      const url = `http://d/api/v1/restore/${id}/download?path=/big`;
      speeds.push(
        fileMib /
          (await timed(() => execFileSync('curl', ['-sf', '-o', '/dev/null', '--unix-socket', socket, url]))),
      );
      dropCaches();
      // what the mount itself gives, without REST: the most that a download can reach
      const file = join(appliance.home, 'mnt', id, 'disk0', 'big');
      direct.push(
        fileMib / (await timed(() => sh('dd', `if=${file}`, 'of=/dev/null', 'bs=1M', 'status=none'))),
      );
      await close(id);
    }
    say(
      `${mode}: mount to first listing at depth ${depth}: ${median(first).toFixed(3)} s; download: ${median(speeds).toFixed(0)} MiB/s; dd in the mount: ${median(direct).toFixed(0)} MiB/s`,
    );
  }
  const plain: number[] = [];
  for (let round = 0; round < rounds; round += 1)
    insideDisk(disk, slice, (root) => {
      dropCaches();
      const started = performance.now();
      sh('dd', `if=${join(root, 'big')}`, 'of=/dev/null', 'bs=1M', 'status=none');
      plain.push(fileMib / ((performance.now() - started) / 1000));
    });
  say(`plain loop mount of the raw disk: ${median(plain).toFixed(0)} MiB/s`);
  const before = memoryKib();
  const ids: string[] = [];
  for (let index = 0; index < mountCount; index += 1) ids.push((await open('loop')).mount_id);
  const after = memoryKib();
  say(
    `${mountCount} mounts: ${((after - before) / 1024).toFixed(0)} MiB more (PSS), ${(after / 1024).toFixed(0)} MiB in all`,
  );
  for (const id of ids) await close(id);
}

try {
  await main();
} finally {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
}
