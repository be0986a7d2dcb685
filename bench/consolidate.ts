/** Compares merging with qemu-img's own ways, in one run. See docs/benchmarks.md; never part of a test. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MergeDocument } from '../src/repository/documents.ts';
import type { ChainLayer } from '../src/repository/layers/layer-chain.ts';
import { moveData } from '../src/repository/merge/move-data.ts';
import { sh } from '../test/support/guest-disk.ts';

const rounds = Number(process.env['BENCH_ROUNDS'] ?? 5);
const base = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const work = mkdtempSync(join(base, 'sd-benchc-'));
const names = {
  full: 'full-20270101-000000.qcow2',
  middle: 'incr-20270102-000000.qcow2',
  top: 'incr-20270103-000000.qcow2',
};
const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const results = new Map<string, number[]>();

/** A virtual machine gets fresh memory from its host slowly: each row finds the same warm pages. */
function warm(mib: number): void {
  sh('dd', 'if=/dev/zero', `of=${join(work, 'warm')}`, 'bs=1M', `count=${mib}`, 'status=none');
  rmSync(join(work, 'warm'));
}

async function timed(name: string, isKept: boolean, run: () => Promise<void> | void): Promise<void> {
  warm(1400);
  const started = performance.now();
  await run();
  const seconds = (performance.now() - started) / 1000;
  if (isKept) results.set(name, [...(results.get(name) ?? []), seconds]);
}

function qemuImg(...args: string[]): void {
  const { status, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`qemu-img ${args.join(' ')}: ${stderr}`);
}

const at = (folder: string, layer: string) => join(folder, layer);
const layerOf = (folder: string, layer: string): ChainLayer => ({
  layer,
  image: at(folder, layer),
  rows: '',
  fingerprint: '',
  // only the names and files matter to the moving of data
  sidecar: {} as ChainLayer['sidecar'],
});

function mergeOf(operation: MergeDocument['operation'], more: Partial<MergeDocument>): MergeDocument {
  const nothing = { into: null, vanishing: [], parent_layer: null, parent_backup_id: null, sidecar: null };
  return { format: 1, operation, stage: 'moving', top: names.top, ...nothing, ...more };
}

function fresh(pristine: string): string {
  const folder = mkdtempSync(join(work, 'chain-'));
  for (const layer of Object.values(names)) copyFileSync(at(pristine, layer), at(folder, layer));
  return folder;
}

/** 1 GiB full, 512 MiB and 256 MiB incrementals, half random, half of one byte. */
function makeChain(): string {
  const folder = join(work, 'pristine');
  mkdirSync(folder);
  const raw = join(work, 'raw');
  sh('dd', 'if=/dev/urandom', `of=${raw}`, 'bs=1M', 'count=1024', 'status=none');
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, at(folder, names.full));
  const add = (layer: string, parent: string, mib: number, offset: number) => {
    qemuImg('create', '-q', '-f', 'qcow2', '-b', parent, '-F', 'qcow2', at(folder, layer));
    sh('dd', 'if=/dev/urandom', `of=${raw}`, 'bs=1M', `count=${mib / 2}`, 'status=none');
    const writes = [
      `write -s ${raw} ${offset}M ${mib / 2}M`,
      `write -P 7 ${offset + mib / 2 + 64}M ${mib / 2}M`,
    ];
    sh('qemu-io', ...writes.flatMap((write) => ['-c', write]), at(folder, layer));
  };
  add(names.middle, names.full, 512, 0);
  add(names.top, names.middle, 256, 300);
  rmSync(raw);
  return folder;
}

try {
  const pristine = makeChain();
  for (let round = 0; round <= rounds; round += 1) {
    console.error(`round ${round} of ${rounds}`);
    const isKept = round > 0; // the first only warms memory and caches
    const control = {
      workFolder: join(work, 'run'),
      rateBytes: null,
      onProgress: () => undefined,
      signal: new AbortController().signal,
    };
    const ours = async (name: string, merge: MergeDocument) => {
      const folder = fresh(pristine);
      const chain = [names.top, names.middle, names.full].map((layer) => layerOf(folder, layer));
      await timed(name, isKept, () => moveData(folder, merge, chain, control));
      rmSync(folder, { recursive: true });
    };
    const theirs = async (name: string, ...args: string[]) => {
      const folder = fresh(pristine);
      await timed(name, isKept, () => qemuImg(...args.map((arg) => arg.replace('@', `${folder}/`))));
      rmSync(folder, { recursive: true });
    };
    await theirs('qemu-img commit of 256 MiB', 'commit', '-d', `@${names.top}`);
    await ours('commit of 256 MiB', mergeOf('commit', { into: names.middle, vanishing: [names.middle] }));
    await theirs('qemu-img rebase over 512 MiB', 'rebase', '-b', names.full, '-F', 'qcow2', `@${names.top}`);
    await ours(
      'stream of 512 MiB',
      mergeOf('stream', { vanishing: [names.middle], parent_layer: names.full }),
    );
    await theirs('qemu-img convert of the chain', 'convert', '-O', 'qcow2', `@${names.top}`, '@new');
    await ours('new full of the chain', mergeOf('full', {}));
  }
  console.log('| what | seconds |\n| --- | ---: |');
  for (const [name, seconds] of results) console.log(`| ${name} | ${median(seconds).toFixed(2)} |`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
