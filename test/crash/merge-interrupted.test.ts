import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { layerChain } from '../../src/repository/layers/layer-chain.ts';
import { digestFile } from '../../src/repository/layers/seal-layer.ts';
import { layerFiles, layout } from '../../src/repository/layout.ts';
import { carryOutMerge, settleMerge } from '../../src/repository/merge/carry-out-merge.ts';
import { mergeLayersOf } from '../../src/repository/merge/merge-layers.ts';
import { type MergeStep, planMerges } from '../../src/repository/merge/plan-merge.ts';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { Operator } from '../support/operator.ts';

const quiet = ['exports.backend=storage-daemon', 'chain.consolidate=false'];
const MIB = 1024 * 1024;

let work: string;
let appliance: TestAppliance;
let operator: Operator;
let disk: string;
let points: string[];

beforeEach(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-mint-'));
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  disk = join(work, 'disk');
  points = [];
  writeFileSync(disk, '');
  truncateSync(disk, 16 * MIB);
  await appliance.start(quiet);
  appliance.json('vm', 'add', 'm', '--disk', disk);
});
afterEach(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

/** Writes data, in MiB of the disk, and backs it up. */
function point(atMib: number, mib: number): string {
  const handle = openSync(disk, 'r+');
  writeSync(handle, bytesOf(`${points.length}-${atMib}`, mib * MIB), 0, mib * MIB, atMib * MIB);
  closeSync(handle);
  const { backup_id } = operator.backUp('m');
  copyFileSync(disk, join(work, backup_id));
  points.push(backup_id);
  return backup_id;
}

function drop(id: string): void {
  points.splice(points.indexOf(id), 1);
  appliance.json('backup', 'delete', id, '--merge');
}

/** The disk of the only machine. */
function place() {
  const root = join(appliance.home, 'backups');
  const vmUuid = readdirSync(root).find((name) => existsSync(layout.vmFile(root, name))) ?? '';
  return { root, vmUuid, diskIndex: 0, folder: layout.diskFolder(root, vmUuid, 0) };
}

/** What is due there, and the means to do it in this very process. */
async function due(controller = new AbortController(), onStep: (step: string) => void = () => undefined) {
  const where = place();
  const [step] = planMerges(await mergeLayersOf(where));
  if (!step) throw new Error('nothing is due');
  const deps = {
    logger: pino({ level: 'silent' }),
    onStep,
    control: {
      workFolder: join(work, 'run'),
      rateBytes: null,
      onProgress: () => undefined,
      signal: controller.signal,
    },
  };
  return { where, step, deps };
}

/** With plain qemu-img only: `top` shows what the disk was at this point. */
const expectPlain = (folder: string, step: MergeStep, id: string) =>
  sh('qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', 'raw', join(folder, step.top), join(work, id));

describe('a merge that ends early', () => {
  it('leaves a disk that grew since the deleted point readable', async () => {
    const first = point(0, 4);
    truncateSync(disk, 20 * MIB);
    point(17, 1);
    point(2, 1);
    drop(first);
    await appliance.stop();
    await appliance.start(quiet, { SENDENSE_CRASH_AT: 'intent:merge-moved' });
    appliance.ctl('backup', 'consolidate', '--vm', 'm', '--wait');
    await appliance.ended();
    await appliance.start(quiet);
    for (const id of points) operator.expectRestored(id, 0, join(work, id));
    appliance.json('backup', 'consolidate', '--vm', 'm', '--wait');
    for (const id of points) operator.expectRestored(id, 0, join(work, id));
    expect(operator.backUp('m').disks.map((one) => one.backup_type)).toEqual(['incremental']);
  });

  /** A deleted point in the middle whose data goes up into the layer above. */
  async function streamIsDue(): Promise<string> {
    point(0, 8);
    const middle = point(1, 1);
    const top = point(8, 6);
    drop(middle);
    await appliance.stop();
    return top;
  }

  it('leaves a chain that can be read when it gives way after the data were streamed', async () => {
    const top = await streamIsDue();
    const stop = new AbortController();
    const { where, step, deps } = await due(stop, (name) => {
      if (name === 'moved') stop.abort();
    });
    expect(step.operation).toBe('stream');
    await expect(carryOutMerge(where, step, deps)).rejects.toThrow();
    expectPlain(where.folder, step, top);
    // a backup or a restore comes next, before the merge goes on
    expect(await layerChain(where.root, where.vmUuid, 0, step.top)).toHaveLength(3);
    await appliance.start(quiet);
    for (const id of points) operator.expectRestored(id, 0, join(work, id));
  });

  /** A deleted full whose place the layer above takes. */
  async function commitIsDue(): Promise<string> {
    const full = point(0, 4);
    const top = point(2, 4);
    drop(full);
    await appliance.stop();
    return top;
  }

  it.each([
    ['stream', streamIsDue, false],
    ['stream', streamIsDue, true],
    ['commit', commitIsDue, false],
    ['commit', commitIsDue, true],
  ] as const)(
    'loses nothing by %s when the storage daemon dies before it has written everything (%#)',
    async (operation, isDue, isAnswered) => {
      const top = await isDue();
      const path = process.env['PATH'];
      process.env['PATH'] = `${daemonThatDiesAtTheEnd(isAnswered)}:${path}`;
      try {
        const { where, step, deps } = await due();
        expect(step.operation).toBe(operation);
        await carryOutMerge(where, step, deps).catch(() => undefined);
        process.env['PATH'] = path;
        await settleMerge(where, deps);
        expectPlain(where.folder, step, top);
      } finally {
        process.env['PATH'] = path;
      }
      await appliance.start(quiet);
      appliance.json('backup', 'consolidate', '--vm', 'm', '--wait');
      for (const id of points) operator.expectRestored(id, 0, join(work, id));
    },
  );

  it('leaves no half-written rows to the next rewriting of the same layer', async () => {
    const first = point(0, 4);
    point(1, 1);
    drop(first);
    await appliance.stop();
    const { where, step, deps } = await due();
    if (step.operation !== 'commit') throw new Error(step.operation);
    const rows = layerFiles(where.folder, step.into).rows;
    writeFileSync(rows, readFileSync(rows).subarray(0, 100));
    await expect(carryOutMerge(where, step, deps)).rejects.toThrow();
    const sidecar = await carryOutMerge(where, { operation: 'compress', top: step.top, bytes: 0 }, deps);
    expect(await digestFile(layerFiles(where.folder, step.top).rows)).toBe(sidecar.rows_b3);
  });
});

/** A folder with a `qemu-storage-daemon` that is killed where it should flush, close and quit. */
function daemonThatDiesAtTheEnd(isAnswered: boolean): string {
  const folder = mkdtempSync(join(work, 'bin-'));
  const real = sh('which', 'qemu-storage-daemon').trim();
  const file = join(folder, 'qemu-storage-daemon');
  writeFileSync(
    file,
    `#!${process.execPath}
const { spawn } = require('node:child_process');
const { existsSync } = require('node:fs');
const net = require('node:net');
const args = process.argv.slice(2);
const socket = /^socket,path=(.*\\/qmp\\.sock),/.exec(args[1] ?? '')?.[1];
const inner = args.map((arg) => (socket ? arg.replace(socket, socket + '.real') : arg));
const daemon = spawn(${JSON.stringify(real)}, inner, { stdio: 'inherit' });
daemon.on('exit', (code) => process.exit(code ?? 1));
process.on('SIGTERM', () => daemon.kill('SIGTERM'));
if (socket) {
  const wait = setInterval(() => {
    if (!existsSync(socket + '.real')) return;
    clearInterval(wait);
    net.createServer((client) => {
      const server = net.connect(socket + '.real');
      server.pipe(client);
      for (const side of [client, server]) side.on('error', () => {});
      client.on('data', (text) => {
        const quit = String(text).split('\\n').find((line) => line.includes('"quit"'));
        if (!quit) return server.write(text);
        daemon.kill('SIGKILL');
        ${isAnswered ? `client.write(JSON.stringify({ return: {}, id: JSON.parse(quit).id }) + '\\n');` : ''}
      });
    }).listen(socket);
  }, 10);
}
`,
  );
  chmodSync(file, 0o755);
  return folder;
}
