/** Compares the product with its peers in one run. See docs/benchmarks.md; never part of a test. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { request } from 'node:http';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { ownerIdOf } from '../src/base/owned-processes.ts';
import { TestAppliance } from '../test/support/appliance.ts';
import { bytesOf, sh } from '../test/support/guest-disk.ts';

const MIB = 1024 * 1024;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 5);
/** In memory when there is room: a disk would measure itself. */
const base =
  existsSync('/dev/shm') && statfsSync('/dev/shm').bavail * statfsSync('/dev/shm').bsize > 12 * 1024 * MIB
    ? '/dev/shm'
    : tmpdir();
const work = mkdtempSync(join(base, 'sd-bench-'));
const at = (name: string) => join(work, name);
const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** Of all processes of the row, MiB. */
  readonly peakMib: number;
  readonly ours?: number;
}
const results = new Map<string, Sample[]>();
const record = (name: string, sample: Sample) => results.set(name, [...(results.get(name) ?? []), sample]);

/** One program, measured by time(1). */
function timed(tool: string, ...args: string[]): Sample {
  const result = spawnSync('/usr/bin/time', ['-q', '-f', '%e %U %S %M', tool, ...args], { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${result.stderr}`);
  const [seconds = 0, user = 0, system = 0, peak = 0] = (result.stderr.trim().split('\n').at(-1) ?? '')
    .split(' ')
    .map(Number);
  return { seconds, cpuSeconds: user + system, peakMib: peak / 1024 };
}

/** CPU and memory of every process that belongs to a home, seen every 150 ms. */
class Watch {
  readonly #home: string;
  readonly #owner: string;
  readonly #cpu = new Map<string, number>();
  readonly #start = new Map<string, number>();
  peakKib = 0;
  peakOursKib = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(home: string) {
    this.#home = home;
    this.#owner = ownerIdOf(home);
    this.#look(true);
    this.#timer = setInterval(() => this.#look(false), 150);
  }

  #look(isFirst: boolean): void {
    let all = 0;
    let ours = 0;
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        const isMover =
          command.includes('sendense-mover') &&
          readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`SENDENSE_OWNER=${this.#owner}`);
        if (!isMover && !command.includes(this.#home)) continue;
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        const ticks = Number(fields[11]) + Number(fields[12]);
        if (isFirst) this.#start.set(pid, ticks);
        this.#cpu.set(pid, ticks);
        const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
        all += rss;
        if (isMover || command.includes('sendensed.js')) ours += rss;
      } catch {
        // it ended while we looked
      }
    }
    this.peakKib = Math.max(this.peakKib, all);
    this.peakOursKib = Math.max(this.peakOursKib, ours);
  }

  end(): { cpuSeconds: number; peakMib: number; ours: number } {
    this.#look(false);
    clearInterval(this.#timer);
    const ticks = [...this.#cpu].reduce((sum, [pid, value]) => sum + value - (this.#start.get(pid) ?? 0), 0);
    return { cpuSeconds: ticks / 100, peakMib: this.peakKib / 1024, ours: this.peakOursKib / 1024 };
  }
}

/** A request from this very process: starting a client program for each look would be in the numbers. */
function ask<T>(appliance: TestAppliance, method: string, path: string, body?: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const socketPath = join(appliance.home, 'run', 'sendensed.sock');
    const headers = { 'Content-Type': 'application/json' };
    const sent = request({ agent: false, socketPath, method, path: `/api/v1${path}`, headers }, (answer) => {
      let text = '';
      answer.on('data', (chunk) => {
        text += chunk;
      });
      answer.on('end', () => resolve(JSON.parse(text) as T));
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Sends one command and looks now and then whether its job has ended. */
async function job(appliance: TestAppliance, path: string, body: object): Promise<Sample> {
  const watch = new Watch(appliance.home);
  const started = performance.now();
  const { job_id } = await ask<{ job_id: string }>(appliance, 'POST', path, body);
  for (;;) {
    const shown = await ask<{ status: string; error: unknown }>(appliance, 'GET', `/jobs/${job_id}`);
    if (shown.status === 'completed') break;
    if (shown.status !== 'running' && shown.status !== 'pending')
      throw new Error(JSON.stringify(shown.error));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const seconds = (performance.now() - started) / 1000;
  return { seconds, ...watch.end() };
}

/** A virtual machine gets fresh memory from its host slowly: each row that writes finds the same warm pages. */
function warm(mib: number): void {
  sh('dd', 'if=/dev/zero', `of=${at('warm')}`, 'bs=1M', `count=${mib}`, 'status=none');
  rmSync(at('warm'));
}

function makeText(seed: string): Buffer {
  const words =
    bytesOf(seed, 4096)
      .toString('hex')
      .match(/.{1,7}/g) ?? [];
  return Buffer.from(`${words.join(' ')}\n`.repeat(130)).subarray(0, MIB);
}

/** `runs`: byte lengths of data runs, each followed by a hole of the same length; half random, half text. */
function makeImage(path: string, sizeMib: number, runs: () => number, dataMib: number): void {
  writeFileSync(path, '');
  truncateSync(path, sizeMib * MIB);
  const handle = openSync(path, 'r+');
  let offset = 0;
  for (let written = 0, count = 0; written < dataMib * MIB; count += 1) {
    const length = Math.min(runs(), dataMib * MIB - written);
    for (let done = 0; done < length; done += MIB) {
      const piece = Math.min(MIB, length - done);
      const bytes =
        count % 2 === 0
          ? bytesOf(`${path}${offset + done}`, piece)
          : makeText(`${offset + done}`).subarray(0, piece);
      writeSync(handle, bytes, 0, bytes.length, offset + done);
    }
    written += length;
    offset += 2 * length;
    if (offset + length > sizeMib * MIB) break;
  }
  closeSync(handle);
}

function change(path: string, sizeMib: number, percent: number, dataMib: number): number {
  const handle = openSync(path, 'r+');
  const count = Math.ceil((dataMib * percent) / 100);
  for (let index = 0; index < count; index += 1) {
    // aligned to the 64 KiB steps: the layer's size is measured against this
    const offset = Math.floor(((index + 0.5) * sizeMib) / count) * MIB;
    writeSync(handle, bytesOf(`change ${Math.random()}`, MIB), 0, MIB, offset);
  }
  closeSync(handle);
  return count * MIB;
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
    rowFile: at('rows'),
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
    { encoding: 'utf8' },
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
        wait < 100 && appliance.json<{ status: string }>('status').status !== 'ok';
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
