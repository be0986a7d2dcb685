import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { LoopFolder } from '../support/loop-folder.ts';
import { Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

const quiet = ['exports.backend=storage-daemon', 'chain.consolidate=false'];
const effects = ['image', 'rows', 'sidecar', 'manifest', 'remove', 'end'];
const steps = [
  ...['began', 'moving', 'moved', 'switching', ...effects].map((step) => `intent:merge-${step}`),
  'intent:merge-catalogued',
  'fact:merge-catalogued',
];

interface Point {
  readonly id: string;
  /** Copy of the disk at that moment. */
  readonly copy: string;
}

/** A home in which one kind of merge is due, and what its restore points must be. */
interface Scene {
  readonly home: string;
  readonly points: readonly Point[];
}

/** Files of a repository by name. */
const filesOf = (home: string) => readdirSync(join(home, 'backups'), { recursive: true }).map(String);

/** Without any of our software: each restore point by its manifest and plain qemu-img. */
function expectPlain(home: string, points: readonly Point[]): void {
  const manifests = filesOf(home).filter((name) => /\/backups\/.*\.json$/.test(name));
  for (const { id, copy } of points) {
    const file = manifests.find((name) => name.endsWith(`/${id}.json`)) ?? '';
    const { disks } = JSON.parse(readFileSync(join(home, 'backups', file), 'utf8')) as {
      disks: { layer: string }[];
    };
    const layer = join(home, 'backups', file, '..', '..', 'disk-0', disks[0]?.layer ?? '');
    sh('qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', 'raw', layer, copy);
  }
}

function expectTidy(home: string, layers: number): void {
  const files = filesOf(home);
  expect(files.filter((name) => /\.(partial|written|tmp|deleted)$|merge\.json$/.test(name))).toEqual([]);
  expect(files.filter((name) => /\/disk-0\/.*\.qcow2$/.test(name))).toHaveLength(layers);
  expect(files.filter((name) => /\/disk-0\/./.test(name))).toHaveLength(3 * layers);
}

describe('a daemon killed while it merges', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-mcrash-'));
  const scenes = new Map<string, Scene>();
  const command: Readonly<Record<string, readonly string[]>> = {
    commit: [],
    stream: [],
    full: ['--full'],
    compress: [],
  };

  /** Writes between the points decide which way the planner takes. */
  async function build(
    kind: string,
    writes: readonly number[],
    doomed: number | null,
    compression: 'none' | 'zstd' = 'none',
  ): Promise<void> {
    const home = mkdtempSync(join(work, `${kind}-`));
    const appliance = new TestAppliance(home);
    const operator = new Operator(appliance);
    const disk = new RandomDisk(join(work, `${kind}.disk`), 16);
    await appliance.start(quiet);
    try {
      appliance.json('vm', 'add', 'm', '--disk', disk.path);
      appliance.json('repository', 'set', 'local', '--compression', compression);
      const points: Point[] = [];
      for (const count of writes) {
        disk.write(count);
        const { backup_id } = operator.backUp('m');
        const copy = join(work, backup_id + kind);
        copyFileSync(disk.path, copy);
        points.push({ id: backup_id, copy });
      }
      const [gone] = doomed === null ? [] : points.splice(doomed, 1);
      if (gone) appliance.json('backup', 'delete', gone.id, '--merge');
      scenes.set(kind, { home, points });
    } finally {
      await appliance.stop();
    }
  }

  beforeAll(async () => {
    await build('commit', [20, 5, 5], 0);
    await build('stream', [20, 1, 30, 3], 1);
    await build('full', [20, 5, 5], null);
    await build('compress', [20, 5], null, 'zstd');
  });
  afterAll(() => rmSync(work, { recursive: true, force: true }));

  async function withCopy(
    kind: string,
    run: (appliance: TestAppliance, points: readonly Point[]) => Promise<void>,
  ) {
    const scene = scenes.get(kind);
    if (!scene) throw new Error(`no scene ${kind}`);
    const home = mkdtempSync(join(tmpdir(), 'sd-'));
    const appliance = new TestAppliance(home);
    try {
      sh('cp', '-a', `${scene.home}/.`, home);
      await run(appliance, scene.points);
    } finally {
      await appliance.dispose();
      rmSync(home, { recursive: true, force: true });
    }
  }

  /** The daemon comes back, everything reads as before, and the merge is done to its end. */
  async function expectRecovered(
    kind: string,
    appliance: TestAppliance,
    points: readonly Point[],
  ): Promise<void> {
    const operator = new Operator(appliance);
    expectPlain(appliance.home, points);
    await appliance.start(quiet);
    // all of them were just compared without us; one is enough to know that we find our way in it
    for (const { id, copy } of points.slice(-1)) operator.expectRestored(id, 0, copy);
    appliance.json('backup', 'consolidate', '--vm', 'm', '--wait', ...(command[kind] ?? []));
    expectPlain(appliance.home, points);
    expectTidy(appliance.home, points.length);
    for (const { id, copy } of points) operator.expectRestored(id, 0, copy);
    expect(operator.backups().filter(({ damaged }) => damaged)).toEqual([]);
    const next = operator.backUp('m');
    expect(next.disks.map((disk) => disk.backup_type)).toEqual(['incremental']);
  }

  for (const kind of Object.keys(command)) {
    // a new file beside the old one removes nothing
    const isBeside = kind === 'full' || kind === 'compress';
    const due = steps.filter((step) => !isBeside || !step.endsWith('-remove'));
    it.each(due)(`by ${kind}, at %s, loses nothing and goes on`, async (step) => {
      await withCopy(kind, async (appliance, points) => {
        await appliance.start(quiet, { SENDENSE_CRASH_AT: step });
        appliance.ctl('backup', 'consolidate', '--vm', 'm', '--wait', ...(command[kind] ?? []));
        await appliance.ended(); // it must have died by its own hand
        await expectRecovered(kind, appliance, points);
      });
    });

    it(`by ${kind}, again while it recovers, loses nothing`, async () => {
      await withCopy(kind, async (appliance, points) => {
        await appliance.start(quiet, { SENDENSE_CRASH_AT: 'intent:merge-image' });
        appliance.ctl('backup', 'consolidate', '--vm', 'm', '--wait', ...(command[kind] ?? []));
        await appliance.ended();
        for (const effect of ['rows', 'sidecar', 'manifest', 'end']) {
          await appliance
            .start(quiet, { SENDENSE_CRASH_AT: `intent:settle-${effect}` })
            .catch(() => undefined);
          await appliance.ended();
          expectPlain(appliance.home, points);
        }
        await expectRecovered(kind, appliance, points);
      });
    });

    it(`by ${kind}, in the middle of moving data, loses nothing`, async () => {
      await withCopy(kind, async (appliance, points) => {
        await appliance.start(quiet);
        appliance.json('backup', 'consolidate', '--vm', 'm', '--rate', '1', ...(command[kind] ?? []));
        await sleep(400);
        await appliance.kill();
        await expectRecovered(kind, appliance, points);
      });
    });
  }

  it('continues a deletion at every step of it', async () => {
    for (const step of [
      'intent:point-deleted:2',
      'fact:point-deleted',
      'intent:layers-released',
      'fact:layers-released',
    ]) {
      await withCopy('full', async (appliance, points) => {
        await appliance.start(quiet);
        const made = appliance.json<{ plan_id: string }>('prune', 'plan', '--keep-last', '1');
        await appliance.stop();
        await appliance.start(quiet, { SENDENSE_CRASH_AT: step });
        appliance.ctl('prune', 'apply', '--plan', made.plan_id, '--wait');
        await appliance.ended();
        const newest = points.slice(-1);
        expectPlain(appliance.home, newest);
        await appliance.start(quiet);
        const again = appliance.json<{ plan_id: string }>('prune', 'plan', '--keep-last', '1');
        appliance.json('prune', 'apply', '--plan', again.plan_id, '--wait');
        appliance.json('backup', 'consolidate', '--vm', 'm', '--wait');
        expectPlain(appliance.home, newest);
        expectTidy(appliance.home, 1);
      });
    }
  });

  it('keeps everything when the disk is full in the middle of a merge', async () => {
    await withCopy('commit', async (appliance, points) => {
      // a copy of the home on a file system with hardly any room left
      const usedMib = Math.ceil(Number(sh('du', '-sk', appliance.home).split('\t')[0]) / 1024);
      const folder = new LoopFolder(join(work, 'small'), usedMib + 40, '-m', '0');
      folder.mount();
      const small = new TestAppliance(folder.path, join(work, 'small.log'));
      try {
        sh('cp', '-a', `${appliance.home}/.`, folder.path);
        await small.start([...quiet, 'repository.reserve_bytes=0']);
        const available = Number(sh('df', '--output=avail', '-B1', folder.path).split('\n')[1]);
        const filler = join(folder.path, 'filler');
        writeFileSync(filler, Buffer.alloc(Math.max(0, available - 256 * 1024)));
        // refused before it begins
        const refused = small.ctl('backup', 'consolidate', '--vm', 'm', '--wait');
        expect(refused.stderr).toMatch(/Not now.*full/i);
        expectPlain(folder.path, points);
        // begun with room enough, which somebody else takes meanwhile
        rmSync(filler);
        const started = small.json<{ job_id: string }>('backup', 'consolidate', '--vm', 'm', '--rate', '1');
        fill(filler);
        const ended = small.ctl('job', 'watch', started.job_id, '-o', 'json');
        expect(ended.stdout + ended.stderr, small.log()).toMatch(/full/i);
        expectPlain(folder.path, points);
        rmSync(filler);
        small.json('backup', 'consolidate', '--vm', 'm', '--wait');
        expectPlain(folder.path, points);
        expectTidy(folder.path, points.length);
      } finally {
        await small.stop();
        folder.dispose();
      }
    });
  });
});

/** Takes all the room there is. */
function fill(path: string): void {
  const handle = openSync(path, 'w');
  const piece = Buffer.alloc(64 * 1024);
  try {
    for (;;) writeSync(handle, piece);
  } catch {
    // the file system is full
  } finally {
    closeSync(handle);
  }
}
