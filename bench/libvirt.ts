/** Compares backups of a running machine with virtnbdbackup. See docs/benchmarks.md; never part of a test. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { bin, TestAppliance } from '../test/support/appliance.ts';
import { LibvirtHost } from '../test/support/libvirt-host.ts';
import { seededRandom } from '../test/support/seeded-random.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 3);
/** Of the disk, which is sparse beyond its data. */
const DISK_MIB = 10 * 1024;
const DATA_MIB = 2 * 1024;
const CHANGED_MIB = DISK_MIB / 20;
const memory = statfsSync('/dev/shm');
if (memory.bavail * memory.bsize < 10 * 1024 * MIB) throw new Error('it needs 10 GiB in /dev/shm');
const work = mkdtempSync('/dev/shm/sd-bench-');
const host = new LibvirtHost('/dev/shm');
const appliance = new TestAppliance(join(work, 'home'), join(work, 'daemon.log'));
const { next, below } = seededRandom(7);

interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
}
const results = new Map<string, Sample[]>();
const record = (name: string, sample: Sample) => results.set(name, [...(results.get(name) ?? []), sample]);
const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** CPU seconds of a process, and of those of its children that have ended. */
function cpuOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  return [11, 12, 13, 14].reduce((sum, index) => sum + (fields[index] ?? 0), 0) / 100;
}
const pidsOfQemu = () =>
  execFileSync('pgrep', ['-f', `qemu-system.*${host.folder}`], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map(Number);
const oursPids = () => [
  ...new Set([
    appliance.pid,
    ...appliance.processes('qemu-storage-daemon'),
    ...appliance.processes('nbd-server'),
  ]),
];

/** One command with everything that works for it. */
function timed(name: string, others: () => number[], tool: string, ...args: string[]): void {
  const total = () => [...pidsOfQemu(), ...others()].reduce((sum, pid) => sum + cpuOf(pid), 0);
  const before = total();
  const started = performance.now();
  const result = spawnSync('/usr/bin/time', ['-q', '-f', '%U %S', tool, ...args], {
    encoding: 'utf8',
    maxBuffer: 256 * MIB,
  });
  if (result.status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${result.stderr}`);
  const seconds = (performance.now() - started) / 1000;
  const [user = 0, system = 0] = (result.stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  record(name, { seconds, cpuSeconds: user + system + total() - before });
}

function fill(path: string, sizeMib: number, dataMib: number): void {
  const raw = `${path}.raw`;
  execFileSync('truncate', ['-s', `${sizeMib}M`, raw]);
  const handle = openSync(raw, 'r+');
  for (let written = 0; written < dataMib; written += 1)
    writeSync(handle, randomBytes(MIB), 0, MIB, written * 2 * MIB);
  closeSync(handle);
  execFileSync('qemu-img', ['convert', '-O', 'qcow2', raw, path]);
  chownSync(path, 65534, 65534);
  rmSync(raw);
}

/** Writes runs of 64 KiB to 1 MiB at random places. */
function change(name: string, sizeMib: number, changedMib: number): void {
  const commands: string[] = [];
  for (let left = changedMib * 16; left > 0; ) {
    const steps = Math.min(left, 1 + below(16));
    commands.push(
      `write -P ${1 + below(255)} ${Math.floor(next() * (sizeMib * 16 - steps)) * 64}k ${steps * 64}k`,
    );
    left -= steps;
  }
  host.write(name, 'vda', ...commands);
}

/** Bytes that the newest checkpoint calls dirty, as libvirt counts them. */
function dirtyBytes(name: string): number {
  const checkpoint = host.checkpoints(name).at(-1) ?? '';
  return Number(/size='(\d+)'/.exec(host.virsh('checkpoint-dumpxml', name, checkpoint, '--size'))?.[1]);
}
const forgetCheckpoints = (name: string) => {
  for (const checkpoint of host.checkpoints(name).toReversed())
    host.virsh('checkpoint-delete', name, checkpoint);
};

const factors: number[] = [];
try {
  await host.start();
  await appliance.start([`libvirt.scratch_folder=${host.disks}`, 'jobs.max_concurrent=5']);
  fill(host.diskPath('bench', 'vda'), DISK_MIB, DATA_MIB);
  host.define('bench', [{ target: 'vda', format: 'qcow2', sizeMib: DISK_MIB }]);
  host.run('bench');
  appliance.json('vm', 'add', 'bench', '--libvirt', 'bench', '--uri', host.uri, '--no-freeze');
  const ctl = (...args: string[]) => [
    '--home',
    appliance.home,
    'backup',
    'start',
    '--vm',
    'bench',
    '--wait',
    ...args,
  ];
  for (let round = 0; round < rounds; round += 1) {
    const peer = join(work, 'peer');
    const common = [
      '-U',
      host.uri,
      '-d',
      'bench',
      '-S',
      host.disks,
      '-f',
      join(host.disks, 'peer.sock'),
      '-o',
      peer,
    ];
    timed('virtnbdbackup full', () => [], 'virtnbdbackup', ...common, '-l', 'full');
    change('bench', DISK_MIB, CHANGED_MIB);
    timed('virtnbdbackup incremental', () => [], 'virtnbdbackup', ...common, '-l', 'inc');
    rmSync(peer, { recursive: true });
    forgetCheckpoints('bench');
    timed('sendense full', oursPids, bin('sendense-ctl'), ...ctl('--type', 'full'));
    change('bench', DISK_MIB, CHANGED_MIB);
    const dirty = dirtyBytes('bench');
    timed('sendense incremental', oursPids, bin('sendense-ctl'), ...ctl('--type', 'incremental'));
    const { backups } = appliance.json<{ backups: { backup_id: string; bytes_transferred: number }[] }>(
      ...['backup', 'list', '--vm', 'bench'],
    );
    factors.push((backups[0]?.bytes_transferred ?? 0) / dirty);
    for (const { backup_id } of backups) appliance.json('backup', 'delete', backup_id);
    forgetCheckpoints('bench');
  }
  console.log('what                         wall s   CPU s (with QEMU), medians of', rounds);
  for (const [name, samples] of results) {
    const wall = median(samples.map(({ seconds }) => seconds)).toFixed(2);
    console.log(
      name.padEnd(26),
      wall.padStart(8),
      median(samples.map(({ cpuSeconds }) => cpuSeconds))
        .toFixed(2)
        .padStart(8),
    );
  }
  console.log(
    'bytes moved / dirty bytes of the incrementals:',
    factors.map((factor) => factor.toFixed(4)).join(' '),
  );

  const machines = Array.from({ length: 5 }, (_, index) => `five${index}`);
  for (const name of machines) {
    fill(host.diskPath(name, 'vda'), 1024, 256);
    host.define(name, [{ target: 'vda', format: 'qcow2', sizeMib: 1024 }]);
    host.run(name);
    appliance.json('vm', 'add', name, '--libvirt', name, '--uri', host.uri, '--no-freeze');
  }
  for (const type of ['full', 'incremental']) {
    if (type === 'incremental') for (const name of machines) change(name, 1024, 51);
    const started = performance.now();
    const ends = machines.map(
      (name) =>
        new Promise((resolve) =>
          appliance.spawnCtl('backup', 'start', '--vm', name, '--type', type, '--wait').once('exit', resolve),
        ),
    );
    const codes = await Promise.all(ends);
    console.log(
      `five machines at once, ${type}: ${((performance.now() - started) / 1000).toFixed(2)} s, exit codes ${codes}`,
    );
  }
} finally {
  await appliance.stop();
  await host.dispose();
  rmSync(work, { recursive: true, force: true });
}
