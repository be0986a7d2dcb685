import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bin, TestAppliance } from '../test/support/appliance.ts';
import {
  bytesOf,
  fillFolder,
  insideDisk,
  makeGptDisk,
  makePlainDisk,
  sh,
  sha256,
} from '../test/support/guest-disk.ts';
import { demoMirror } from './demo-mirror.ts';

const keep = process.argv.includes('--keep');
const started = performance.now();
let last = started;
function step(text: string): void {
  const now = performance.now();
  console.log(`${String(Math.round(now - last)).padStart(6)} ms`);
  last = now;
  process.stdout.write(`${text.padEnd(86)}`);
}
function indent(text: string): void {
  console.log(`\n${text.trimEnd().replace(/^/gm, '      ')}`);
  process.stdout.write(''.padEnd(86));
}
function must(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

if (process.getuid?.() !== 0) {
  console.error('The demo makes and mounts disks and so needs root: sudo ./scripts/demo');
  process.exit(12);
}
const work = mkdtempSync(join(tmpdir(), 'sendense-demo-'));
const home = join(work, 'home');
mkdirSync(home);
const appliance = new TestAppliance(home);
const diskA = join(work, 'a.img');
const diskB = join(work, 'b.img');

function backUp(type: string): string {
  const answer = appliance.json<{ backup_id: string }>(
    'backup',
    'start',
    '--vm',
    'shop',
    '--type',
    type,
    '--wait',
  );
  copyFileSync(diskA, `${diskA}.${answer.backup_id}`);
  copyFileSync(diskB, `${diskB}.${answer.backup_id}`);
  return answer.backup_id;
}

async function main(): Promise<void> {
  process.stdout.write('Making a machine of two disks: GPT with ext4 and xfs, and a plain ext4'.padEnd(86));
  const { ext4, xfs } = makeGptDisk(diskA);
  const plain = makePlainDisk(diskB, 192);
  insideDisk(diskA, ext4, (root) => fillFolder(join(root, 'var', 'www'), 'www', 60, 1_000_000));
  insideDisk(diskA, xfs, (root) => fillFolder(join(root, 'srv', 'data'), 'data', 60, 1_000_000));
  insideDisk(diskB, plain, (root) => fillFolder(join(root, 'home'), 'home', 40, 1_000_000));

  step(`Starting sendensed on an empty home`);
  await appliance.start();
  step('Registering the machine "shop"');
  appliance.json('vm', 'add', 'shop', '--disk', diskA, '--disk', diskB);
  step('Full backup');
  const full = backUp('full');
  step('Changing about 5 % of the files');
  insideDisk(diskA, ext4, (root) =>
    writeFileSync(join(root, 'var', 'www', 'file-30.dat'), bytesOf('changed', 3_000_000)),
  );
  insideDisk(diskA, xfs, (root) => fillFolder(join(root, 'srv', 'data', 'new'), 'new', 4, 1_000_000));
  step('Incremental backup');
  const second = backUp('incremental');
  step('Changing again: deleting files, punching zeros into another');
  insideDisk(diskA, ext4, (root) => {
    for (let index = 10; index < 20; index += 1) unlinkSync(join(root, 'var', 'www', `file-${index}.dat`));
    sh('fallocate', '-p', '-o', '0', '-l', '524288', join(root, 'var', 'www', 'file-59.dat'));
  });
  insideDisk(diskB, plain, (root) =>
    sh(
      'dd',
      'if=/dev/zero',
      `of=${join(root, 'home', 'file-39.dat')}`,
      'bs=64k',
      'count=8',
      'conv=notrunc',
      'status=none',
    ),
  );
  step('Incremental backup');
  const third = backUp('incremental');
  step('The chain, layer by layer');
  indent(appliance.ctl('backup', 'chain', '--vm', 'shop').stdout);
  step('Mounting the newest and the oldest restore point at once');
  const newest = appliance.json<{ mount_id: string }>('backup', 'mount', '--backup-id', third);
  const oldest = appliance.json<{ mount_id: string }>('backup', 'mount', '--backup-id', full);
  step('Listing a folder of the newest');
  indent(
    appliance
      .ctl('mount', 'files', newest.mount_id, '--path', '/disk0-p1/var/www')
      .stdout.split('\n')
      .slice(0, 6)
      .join('\n'),
  );
  step('Extracting a file from each and comparing with what was written');
  for (const [id, expected] of [
    [full, bytesOf('www/30', Math.floor((30 / 59) * 2_000_000))],
    [third, bytesOf('changed', 3_000_000)],
  ] as const) {
    const output = join(work, `extracted-${id}`);
    const result = appliance.ctl(
      'backup',
      'extract',
      '--backup-id',
      id,
      '--file',
      '/var/www/file-30.dat',
      '--output',
      output,
    );
    must(result.code === 0, result.stderr);
    must(sha256(readFileSync(output)) === sha256(expected), `the file out of ${id} is another one`);
  }
  appliance.ctl('mount', 'remove', newest.mount_id);
  appliance.ctl('mount', 'remove', oldest.mount_id);
  step('Destroying the disks');
  unlinkSync(diskA);
  unlinkSync(diskB);
  step('Restoring both disks whole and comparing bit for bit with the last state');
  for (const [index, disk] of [diskA, diskB].entries()) {
    const result = appliance.ctl(
      'restore',
      'disk',
      '--backup-id',
      third,
      '--disk',
      String(index),
      '--output',
      disk,
    );
    must(result.code === 0, result.stderr);
    sh('cmp', disk, `${disk}.${third}`);
  }
  step('Each older restore point too, read by plain qemu-img without our software');
  for (const id of [full, second]) {
    const shown = appliance.json<{ disks: { disk_id: number; layer: string }[] }>('backup', 'show', id);
    for (const disk of shown.disks) {
      const layer = sh('find', join(home, 'backups'), '-path', `*/disk-${disk.disk_id}/${disk.layer}`).trim();
      sh('qemu-img', 'check', '-q', layer);
      sh('qemu-img', 'compare', '-q', '-F', 'raw', layer, `${disk.disk_id === 0 ? diskA : diskB}.${id}`);
    }
  }
  if (process.argv.includes('--s3'))
    await demoMirror(step, { appliance, work, newest: third, disks: [diskA, diskB] });
  step('');
  console.log(
    `\nAll restore points are identical to the disks at their time. ${((performance.now() - started) / 1000).toFixed(1)} s in all.`,
  );
}

try {
  await main();
  if (keep)
    console.log(
      `\nThe daemon still runs (pid ${appliance.pid}). Look around with\n  ${bin('sendense-ctl')} --home ${home} backup list\nand when done:  kill ${appliance.pid}; rm -r ${work}`,
    );
} catch (error) {
  console.error(
    `\nThe demo failed: ${error instanceof Error ? error.message : error}\n${existsSync(appliance.logFile) ? appliance.log() : ''}`,
  );
  process.exitCode = 1;
} finally {
  if (!keep || process.exitCode === 1) {
    await appliance.stop();
    rmSync(work, { recursive: true, force: true });
  }
}
if (keep) process.exit();
