/**
 * A large appliance: 10,000 machines and 1,000,000 restore points. Times pages of `backup list`, the start of the
 * daemon and the planning of 100,000 restore points, all over REST. Run: `node bench/scale.ts` (`SCALE_MACHINES=1000`
 * for a quick look). Needs about 3 GiB of disk in TMPDIR.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../src/base/clock.ts';
import { homePaths } from '../src/base/home/home-paths.ts';
import { createLogger } from '../src/base/logger.ts';
import { createCatalog } from '../src/catalog/catalog.ts';
import type { MirrorPoint, MirrorRecord } from '../src/catalog/mirrors/mirrors.ts';
import type { Backup } from '../src/catalog/points/backup-rows.ts';
import { chainsOf } from '../src/repository/layers/chains.ts';

const MACHINES = Number(process.env['SCALE_MACHINES'] ?? 10_000);
/** Each machine has so many in `local`, and each tenth so many more in `archive`. */
const POINTS = 90;
const ARCHIVED = 100;
const CHAIN = 30;
const ROUNDS = 7;
const MAX_LINKS = 60_000;
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const home = mkdtempSync(join(process.env['TMPDIR'] ?? tmpdir(), 'sd-scale-'));
const paths = homePaths(home);
const archive = join(home, 'archive');
const table: string[] = ['| what | median ms | worst ms | |', '| --- | ---: | ---: | --- |'];
const row = (what: string, median: number, worst: number, note = '') =>
  table.push(`| ${what} | ${median.toFixed(0)} | ${worst.toFixed(0)} | ${note} |`);
const nameOf = (machine: number) => `m${String(machine).padStart(5, '0')}`;
const uuidOf = (machine: number) => `00000000-0000-4000-8000-${String(machine).padStart(12, '0')}`;
const contextOf = (machine: number) => `ctx-${nameOf(machine)}-20260101-000000`;

function call(method: string, path: string, body?: unknown): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' };
    const sent = request(
      { socketPath: paths.socketFile, method, path: `/api/v1${path}`, headers },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          if ((answer.statusCode ?? 500) < 300) resolve(text);
          else reject(new Error(text));
        });
      },
    );
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

interface Daemon {
  readonly pid: number;
  readonly readyMs: number;
  stop(): Promise<void>;
}

async function start(): Promise<Daemon> {
  const startedMs = performance.now();
  const log = openSync(join(home, 'daemon.log'), 'a');
  const child = spawn(join(root, 'bin', 'sendensed'), ['--home', home], { stdio: ['ignore', log, log] });
  closeSync(log);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  for (;;) {
    const isUp =
      existsSync(paths.socketFile) &&
      (await call('GET', '/health').then(
        () => true,
        () => false,
      ));
    if (isUp) break;
    if (child.exitCode !== null) throw new Error(readFileSync(join(home, 'daemon.log'), 'utf8').slice(-2000));
    await sleep(10);
  }
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
  };
  return { pid: child.pid ?? 0, readyMs: performance.now() - startedMs, stop };
}

/** From proc(5): the most memory it ever had, and its CPU time so far in ms. */
function usageOf(pid: number): { peakMib: number; cpuMs: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return {
    peakMib: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024,
    cpuMs: (Number(fields[11]) + Number(fields[12])) * 10,
  };
}

/** Until it does nothing any more. @returns how long that took */
async function quiet(pid: number): Promise<number> {
  const startedMs = performance.now();
  for (let before = -1, calm = 0; calm < 4; ) {
    const { cpuMs } = usageOf(pid);
    calm = cpuMs - before <= 20 ? calm + 1 : 0;
    before = cpuMs;
    await sleep(250);
  }
  return performance.now() - startedMs - 1000;
}

/** Restore points of one machine, one an hour, oldest first. */
function pointsOf(machine: number, repositoryId: string, count: number, newestMs: number): Backup[] {
  const points: Backup[] = [];
  for (let index = 0; index < count; index += 1) {
    const at = new Date(newestMs - (count - index) * 3_600_000 + machine * 100);
    const stamp = at.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
    const isFull = index % CHAIN === 0;
    const type = isFull ? 'full' : 'incremental';
    const parent = isFull ? null : (points.at(-1) ?? null);
    points.push({
      id: `backup-${nameOf(machine)}-${stamp.replace('-', '')}`,
      jobId: `job-${stamp}-${String(machine).padStart(6, '0')}`,
      contextId: contextOf(machine),
      vmName: nameOf(machine),
      type,
      status: 'completed',
      repositoryId,
      consistency: 'crash',
      bytesTransferred: 1_000_000,
      totalBytes: 10_000_000,
      error: null,
      createdAt: at.toISOString(),
      startedAt: at.toISOString(),
      completedAt: new Date(at.getTime() + 5000).toISOString(),
      copiedFrom: null,
      disks: [
        {
          diskIndex: 0,
          diskKey: `/srv/${nameOf(machine)}.img`,
          type,
          reason: null,
          layer: `${isFull ? 'full' : 'incr'}-${stamp}.qcow2`,
          parentLayer: parent?.disks[0]?.layer ?? null,
          parentBackupId: parent?.id ?? null,
          sizeBytes: 10_000_000,
          writtenBytes: 1_000_000,
          fileBytes: isFull ? 10_000_000 : 1_000_000,
          damage: null,
          fingerprint: null,
          verifiedAt: null,
          verifiedOk: null,
        },
      ],
    });
  }
  return points;
}

/** Names are all that a start reads of what is known: each manifest is a link to an empty file. */
function makeFolder(folder: string, machine: number, points: readonly Backup[]): void {
  const backups = join(folder, uuidOf(machine), 'backups');
  mkdirSync(backups, { recursive: true });
  mkdirSync(join(folder, uuidOf(machine), 'disk-0'));
  for (const { id } of points) {
    if (linked.count % MAX_LINKS === 0) {
      linked.file = join(home, `empty-${linked.count}`);
      writeFileSync(linked.file, '');
    }
    linkSync(linked.file, join(backups, `${id}.json`));
    linked.count += 1;
  }
}
const linked = { count: 0, file: '' };

function populate(): number {
  const catalog = createCatalog(paths.catalogFile, systemClock, createLogger('warn'));
  const ids = new Map(catalog.repositories.all().map(({ name, id }) => [name, id]));
  const nowMs = Date.now() - 3_600_000;
  let count = 0;
  const mirrored: MirrorPoint[] = [];
  catalog.transaction(() => {
    for (let machine = 0; machine < MACHINES; machine += 1) {
      const vm = {
        contextId: contextOf(machine),
        vmUuid: uuidOf(machine),
        name: nameOf(machine),
        source: { kind: 'image' as const },
        registered: true,
        beforeCommand: null,
        afterCommand: null,
        allowBacking: [],
        agentId: null,
        labels: {},
        unprotected: null,
        createdAt: '2026-01-01T00:00:00.000Z',
        disks: [{ diskIndex: 0, key: `/srv/${nameOf(machine)}.img`, format: 'raw' as const, active: true }],
      };
      catalog.vms.save(vm, systemClock.now());
      const places: [string, string, number, number][] = [
        ['local', paths.defaultRepositoryFolder, POINTS, nowMs],
        ['archive', archive, machine % 10 === 0 ? ARCHIVED : 0, nowMs - POINTS * 3_600_000 - 1800_000],
      ];
      for (const [name, folder, wanted, newestMs] of places) {
        if (wanted === 0) continue;
        const repositoryId = ids.get(name) ?? '';
        const points = pointsOf(machine, repositoryId, wanted, newestMs);
        for (const point of points) catalog.backups.save(point);
        // one attempt of a machine failed
        const [first] = points;
        if (first) catalog.backups.save({ ...first, id: `${first.id}-2`, status: 'failed', disks: [] });
        catalog.chains.replace(vm.contextId, repositoryId, chainsOf(points), systemClock.now());
        makeFolder(folder, machine, points);
        count += points.length;
        if (name === 'local')
          for (const { id, completedAt } of points.slice(-3))
            mirrored.push({ name: `${id}-disk0`, backupId: id, vmName: vm.name, completedAt } as MirrorPoint);
      }
    }
    catalog.mirrors.save({ name: 'offsite', mirrorId: 'm', createdAt: '', epoch: null } as MirrorRecord);
    catalog.mirrors.replacePoints('offsite', mirrored);
  });
  catalog[Symbol.dispose]();
  return count;
}

/** @param pid of the daemon, whose CPU time is told: on a busy machine the clock says little */
async function timed(
  pid: number,
  what: string,
  work: () => Promise<unknown>,
  rounds = ROUNDS,
): Promise<void> {
  const took: number[] = [];
  const { cpuMs } = usageOf(pid);
  for (let round = 0; round < rounds; round += 1) {
    const startedMs = performance.now();
    await work();
    took.push(performance.now() - startedMs);
  }
  took.sort((a, b) => a - b);
  const cpu = (usageOf(pid).cpuMs - cpuMs) / rounds;
  row(what, took[Math.floor(took.length / 2)] ?? 0, took.at(-1) ?? 0, `CPU ${cpu.toFixed(0)} ms`);
}

try {
  const first = await start();
  await call('POST', '/repositories', { name: 'archive', path: archive });
  await first.stop();
  const startedMs = performance.now();
  const count = populate();
  console.error(`${count} restore points made in ${((performance.now() - startedMs) / 1000).toFixed(0)} s`);

  for (const which of ['first', 'again']) {
    const daemon = await start();
    const startCpuMs = usageOf(daemon.pid).cpuMs;
    const lookMs = await quiet(daemon.pid);
    const { peakMib } = usageOf(daemon.pid);
    row(`start until REST answers, ${which}`, daemon.readyMs, daemon.readyMs, `CPU ${startCpuMs} ms`);
    row(
      'look through both repositories, in the background',
      lookMs,
      lookMs,
      `peak ${peakMib.toFixed(0)} MiB`,
    );
    if (which === 'first') await daemon.stop();
    else {
      const vm = nameOf(Math.floor(MACHINES / 20) * 10);
      const list = (query: string) => call('GET', `/backup/list?limit=100${query}`);
      // a cursor deep in the list: the oldest of a machine
      const page = JSON.parse(await call('GET', `/backup/list?vm_name=${vm}&limit=1000`)) as {
        backups: { backup_id: string }[];
      };
      const deep = page.backups.at(-2)?.backup_id ?? '';
      await timed(daemon.pid, '`backup list`, first page of 100', () => list(''));
      await timed(daemon.pid, '… deep in the list', () => list(`&cursor=${deep}`));
      await timed(daemon.pid, '… of one machine', () => list(`&vm_name=${vm}`));
      await timed(daemon.pid, '… of one machine, deep', () => list(`&vm_name=${vm}&cursor=${deep}`));
      await timed(daemon.pid, '… completed', () => list('&status=completed'));
      await timed(daemon.pid, '… completed, deep', () => list(`&status=completed&cursor=${deep}`));
      await timed(daemon.pid, '… failed', () => list('&status=failed'));
      await timed(daemon.pid, '… running (none)', () => list('&status=running'));
      await timed(daemon.pid, '… in one repository, deep', () => list(`&repository=archive&cursor=${deep}`));
      await timed(daemon.pid, '`backup show` by a unique beginning', () =>
        call('GET', `/backup/${deep.slice(0, -1)}`).catch(() => 0),
      );
      await timed(daemon.pid, '`repository list`', () => call('GET', '/repositories'));
      const policy = {
        machines: { patterns: ['*'] },
        mirrors: ['offsite'],
        runner: 'none',
        time_zone: 'Europe/Berlin',
      };
      await call('POST', '/policies', { ...policy, name: 'all', schedule: 'every 4h' });
      await call('POST', '/policies', {
        ...policy,
        name: 'night',
        schedule: 'daily at 22:00',
        full: 'weekly',
      });
      await timed(daemon.pid, '`status`, two policies for all machines and a mirror', () =>
        call('GET', '/status'),
      );
      await timed(daemon.pid, '… with every machine in the answer', () =>
        call('GET', '/status?all=true&limit=100000'),
      );
      await timed(daemon.pid, '… as a command', async () => {
        await new Promise((done) =>
          spawn(join(root, 'bin', 'sendense-ctl'), ['--home', home, 'status'], { stdio: 'ignore' }).once(
            'exit',
            done,
          ),
        );
      });
      const rules = { hourly: 24, daily: 7, weekly: 4, monthly: 12 };
      const plan = (body: object) => call('POST', '/prune/plan', { ...body, rules });
      await timed(daemon.pid, '`prune plan` of one machine', () => plan({ vm_name: vm }));
      const planned = `${Math.ceil(MACHINES / 10) * ARCHIVED} restore points`;
      await timed(
        daemon.pid,
        `\`prune plan --repository archive\`, ${planned}`,
        () => plan({ repository: 'archive' }),
        3,
      );
      console.error(`peak memory after that: ${usageOf(daemon.pid).peakMib.toFixed(0)} MiB`);
      await daemon.stop();
    }
  }
  console.log(table.join('\n'));
} finally {
  rmSync(home, { recursive: true, force: true });
}
