/** Compares the product with its peers in one run. See docs/benchmarks.md; never part of a test. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { TestAppliance } from '../test/support/appliance.ts';
import { sh } from '../test/support/guest-disk.ts';
import { change, makeImage } from './support/images.ts';
import { job, median, type Sample, timed } from './support/measure.ts';

const MIB = 1024 * 1024;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 5);
/** In memory when there is room: a disk would measure itself. */
const base =
  existsSync('/dev/shm') && statfsSync('/dev/shm').bavail * statfsSync('/dev/shm').bsize > 12 * 1024 * MIB
    ? '/dev/shm'
    : tmpdir();
const work = mkdtempSync(join(base, 'sd-bench-'));
const at = (name: string) => join(work, name);
const results = new Map<string, Sample[]>();
const record = (name: string, sample: Sample) => results.set(name, [...(results.get(name) ?? []), sample]);

/** A virtual machine gets fresh memory from its host slowly: each row that writes finds the same warm pages. */
function warm(mib: number): void {
  sh('dd', 'if=/dev/zero', `of=${at('warm')}`, 'bs=1M', `count=${mib}`, 'status=none');
  rmSync(at('warm'));
}

async function withQsd(layer: string, work_: (uri: string, socket: string) => Promise<void>): Promise<void> {
  const { StorageDaemon } = await import('../src/qemu/storage-daemon.ts');
  const { createLogger } = await import('../src/base/logger.ts');
  const { writableLayer } = await import('../src/qemu/block-graph.ts');
  const daemon = new StorageDaemon({ logger: createLogger('error'), folder: at('qsd') });
  await daemon.start();
  await daemon.openImage('n', writableLayer(layer, []));
  await daemon.addExport('n', 'x', { type: 'nbd', exportName: 'n', writable: true });
  await work_(`nbd+unix:///n?socket=${daemon.nbdSocket}`, daemon.nbdSocket);
  await daemon.closeImage('n');
  await daemon.stop();
}

/** The mover alone, on the endpoints that nbdcopy gets. */
function mover(source: string, sizeBytes: number, socketPath: string): Sample {
  const spec = {
    source: { kind: 'file', path: source, sizeBytes, hasHoles: true },
    target: { socketPath, exportName: 'n' },
    tuning: { connections: 3, inFlight: 2, canWriteZeroes: true },
    parent: null,
    writtenFile: at('written'),
  };
  writeFileSync(at('spec'), `${JSON.stringify(spec)}\n`);
  // stdin must stay open: the mover takes its end for a daemon that is gone
  const result = spawnSync(
    '/bin/bash',
    [
      '-c',
      `exec 3< <(cat ${at('spec')}; exec sleep 100); sp=$!; /usr/bin/time -q -f '%e %U %S %M' node_modules/node/bin/node --max-old-space-size=96 --max-semi-space-size=2 dist/main/sendense-mover.js <&3; rc=$?; kill $sp; exit $rc`,
    ],
    { encoding: 'utf8', maxBuffer: 256 * MIB },
  );
  if (!result.stdout.includes('"type":"done"')) throw new Error(`mover: ${result.stdout} ${result.stderr}`);
  const [seconds = 0, user = 0, system = 0, peak = 0] = (result.stderr.trim().split('\n').at(-1) ?? '')
    .split(' ')
    .map(Number);
  return { seconds, cpuSeconds: user + system, peakMib: peak / 1024 };
}

async function dataset(name: string, sizeMib: number, dataMib: number, runs: () => number): Promise<void> {
  const source = at('source.raw');
  makeImage(source, sizeMib, runs, dataMib);
  const out = at('out');
  for (let round = 0; round < rounds + 1; round += 1) {
    // the first round only warms memory and caches
    const keep = (row: string, sample: Sample) =>
      round === 0 ? undefined : record(`${name}: ${row}`, sample);
    console.error(`${name}: round ${round} of ${rounds}`);
    rmSync(out, { force: true });
    warm(dataMib + 256);
    keep('cp --sparse', timed('cp', '--sparse=always', source, out));
    rmSync(out);
    warm(dataMib + 256);
    keep('qemu-img convert → qcow2', timed('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', source, out));
    rmSync(out);
    for (const which of ['nbdcopy', 'mover'] as const) {
      sh('qemu-img', 'create', '-q', '-f', 'qcow2', out, `${sizeMib}M`);
      warm(dataMib + 256);
      await withQsd(out, async (uri, socket) => {
        if (which === 'nbdcopy') keep('nbdcopy → storage-daemon', timed('nbdcopy', '--flush', source, uri));
        else keep('mover → storage-daemon', mover(source, sizeMib * MIB, socket));
      });
      rmSync(out);
    }
    for (const backend of ['storage-daemon', 'nbd-server']) {
      const appliance = new TestAppliance(mkdtempSync(join(work, 'h-')));
      const started = performance.now();
      await appliance.start([`exports.backend=${backend}`]);
      const log = appliance.log();
      keep('daemon ready', {
        seconds: Number(/"ms":(\d+)/.exec(log)?.[1] ?? performance.now() - started) / 1000,
        cpuSeconds: 0,
        peakMib: 0,
      });
      // tools come up in the background; a machine that runs for days has them
      for (
        let wait = 0;
        wait < 100 && JSON.parse(appliance.rest('GET', '/api/v1/health').body).status !== 'ok';
        wait += 1
      )
        await new Promise((resolve) => setTimeout(resolve, 50));
      appliance.json('vm', 'add', 'm', '--disk', source);
      warm(dataMib + 256);
      keep(
        `full backup through ${backend}`,
        await job(appliance, '/backup/start', { vm_name: 'm', backup_type: 'full' }),
      );
      if (backend === 'storage-daemon') {
        copyFileSync(source, at('before'));
        keep('b3sum --num-threads 1 of the source', timed('b3sum', '--num-threads', '1', source));
        const changed = change(source, sizeMib, 5, dataMib);
        keep(
          `incremental after 5 % through ${backend}`,
          await job(appliance, '/backup/start', { vm_name: 'm', backup_type: 'incremental' }),
        );
        const shown = appliance.json<{ backup_id: string; disks: { file_bytes: number }[] }>(
          'backup',
          'show',
          'latest',
        );
        keep('layer ÷ changed bytes', {
          seconds: (shown.disks[0]?.file_bytes ?? 0) / changed,
          cpuSeconds: 0,
          peakMib: 0,
        });
        warm(dataMib + 256);
        keep(
          'restore of a disk',
          await job(appliance, '/restore/disk', { backup_id: shown.backup_id, disk: 0, output: out }),
        );
        sh('cmp', source, out);
        rmSync(out);
        const layer = sh('find', join(appliance.home, 'backups'), '-name', 'incr-*.qcow2').trim();
        warm(dataMib + 256);
        keep('qemu-img convert of the chain → raw', timed('qemu-img', 'convert', '-O', 'raw', layer, out));
        rmSync(out);
        copyFileSync(at('before'), source);
        rmSync(at('before'));
      } else {
        change(source, sizeMib, 5, dataMib);
        keep(
          `incremental after 5 % through ${backend}`,
          await job(appliance, '/backup/start', { vm_name: 'm', backup_type: 'incremental' }),
        );
      }
      await appliance.stop();
      rmSync(appliance.home, { recursive: true, force: true });
    }
  }
  rmSync(source);
}

async function mountTime(): Promise<void> {
  const { makeGptDisk, insideDisk, fillFolder } = await import('../test/support/guest-disk.ts');
  const disk = at('gpt.img');
  const { ext4 } = makeGptDisk(disk);
  insideDisk(disk, ext4, (root) => fillFolder(join(root, 'a'), 'a', 20, MIB));
  const appliance = new TestAppliance(mkdtempSync(join(work, 'h-')));
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', disk);
  appliance.json('backup', 'start', '--vm', 'm', '--type', 'full', '--wait');
  for (let round = 0; round < rounds; round += 1) {
    const started = performance.now();
    const mount = JSON.parse(
      appliance.rest('POST', '/api/v1/restore/mount', { backup_id: 'latest' }).body,
    ) as { mount_id: string };
    record('mount of GPT with ext4 and xfs', {
      seconds: (performance.now() - started) / 1000,
      cpuSeconds: 0,
      peakMib: 0,
    });
    appliance.rest('DELETE', `/api/v1/restore/${mount.mount_id}`);
  }
  await appliance.stop();
}

function printTable(): void {
  console.log(
    `\n${new Date().toISOString().slice(0, 10)}, ${cpus().length} × ${cpus()[0]?.model}, ${Math.round(totalmem() / 1024 ** 3)} GiB, in ${base}, medians of ${rounds}`,
  );
  console.log(
    `${sh('qemu-img', '--version').split('\n')[0]}; node ${process.version}; ${spawnSync('nbd-server', ['-V'], { encoding: 'utf8' }).stdout.split('\n')[0]}\n`,
  );
  console.log(
    '| what | seconds | CPU s | peak MiB, all | daemon + mover MiB |\n| --- | ---: | ---: | ---: | ---: |',
  );
  for (const [name, samples] of results) {
    const of = (pick: (sample: Sample) => number) => median(samples.map(pick));
    const number = (value: number, digits: number) => (value === 0 ? '' : value.toFixed(digits));
    console.log(
      `| ${name} | ${of((sample) => sample.seconds).toFixed(2)} | ${number(
        of((sample) => sample.cpuSeconds),
        2,
      )} | ${number(
        of((sample) => sample.peakMib),
        0,
      )} | ${number(
        of((sample) => sample.ours ?? 0),
        0,
      )} |`,
    );
  }
}

try {
  await dataset('2 GiB in 4 GiB', 4096, 2048, () => 16 * MIB);
  printTable();
  let turn = 0;
  const lengths = [64 * 1024, 4 * MIB, 256 * 1024, 1 * MIB, 128 * 1024, 2 * MIB];
  await dataset('1 GiB scattered', 2304, 1024, () => lengths[turn++ % lengths.length] ?? MIB);
  await mountTime();
  printTable();
} finally {
  rmSync(work, { recursive: true, force: true });
}
