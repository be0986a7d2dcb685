import { appendFileSync, copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { ownerIdOf } from '../../src/base/process/owned-processes.ts';
import { freePort, TestAgent } from '../support/agent.ts';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { Operator, until } from '../support/operator.ts';

const MIB = 1024 * 1024;
const SIZE = 40 * MIB;
const work = mkdtempSync(join(tmpdir(), 'sd-resume-'));
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const agent = new TestAgent(appliance, 'far');
const disk = join(work, 'disk.img');
let settings: string[] = [];

beforeAll(async () => {
  const [port, sshPort] = [await freePort(), await freePort()];
  settings = [
    'exports.backend=storage-daemon',
    `agents.listen=127.0.0.1:${port}`,
    `agents.ssh_listen=127.0.0.1:${sshPort}`,
    // it is renewed while all this goes on
    'agents.certificate_s=40',
  ];
  await appliance.start(settings);
  agent.enroll(`127.0.0.1:${port}`, [work]);
  await agent.start();
  sh('dd', 'if=/dev/urandom', `of=${disk}`, 'bs=1M', `count=${SIZE / MIB}`, 'status=none');
  appliance.json('vm', 'add', 'm', '--agent', 'far', '--disk', disk);
});
beforeEach(() => {
  // slow enough to be met in the middle; a flush covers 256 MiB, so something must make it flush earlier
  appliance.json('agent', 'set', 'far', '--data-way', 'tls', '--rate', '4MiB');
});
afterAll(async () => {
  await agent.dispose();
  await appliance.dispose();
  expect(appliance.leftovers()).toEqual([]);
  rmSync(work, { recursive: true, force: true });
});

interface Started {
  readonly job_id: string;
  readonly backup_id: string;
}

/** Starts a full and waits until a part of it is safe. */
async function startAndReachMiddle(): Promise<Started> {
  const started = appliance.json<Started>('backup', 'start', '--vm', 'm', '--type', 'full');
  await until('a part of the disk is safe', () => journalled() > 4 * MIB);
  return started;
}

/** Bytes that the journal of the layer which is being filled tells to be safe. */
function journalled(): number {
  const root = join(appliance.home, 'backups');
  const file = readdirSync(root, { recursive: true, encoding: 'utf8' }).find((name) =>
    name.endsWith('.journal'),
  );
  if (file === undefined) return 0;
  const line = readFileSync(join(root, file), 'utf8').trimEnd().split('\n').at(-1) ?? '';
  return line === '' ? 0 : (JSON.parse(line) as { until: number }).until;
}

/** Lets it run at full speed and compares what came of it. */
async function finishes({ job_id, backup_id }: Started): Promise<void> {
  appliance.json('agent', 'set', 'far', '--rate', 'none');
  await until('the job ended', () => !['pending', 'running'].includes(operator.job(job_id).status));
  const job = operator.job(job_id);
  expect(job.error).toBeNull();
  expect(job.status).toBe('completed');
  copyFileSync(disk, join(work, 'as-it-was.img'));
  operator.expectRestored(backup_id, 0, join(work, 'as-it-was.img'));
  expect(appliance.ctl('verify', 'vm', 'm', '--wait').code).toBe(0);
}

/** From which byte an attempt went on, as the job tells it. */
const wentOnAt = (jobId: string): number[] =>
  operator
    .job(jobId)
    .warnings.flatMap((text) => /broke at byte (\d+) and went on/.exec(text)?.[1] ?? [])
    .map(Number);

const childrenOfAgent = (part: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(part) &&
          readFileSync(`/proc/${pid}/environ`, 'utf8').includes(ownerIdOf(agent.home))
        );
      } catch {
        return false;
      }
    })
    .map(Number);

it('goes on from the last flushed byte when the mover is killed', async () => {
  const started = await startAndReachMiddle();
  for (const pid of childrenOfAgent('sendense-mover')) process.kill(pid, 'SIGKILL');
  await finishes(started);
  expect(wentOnAt(started.job_id)[0]).toBeGreaterThan(4 * MIB);
});

it('goes on when the ssh tunnel breaks', async () => {
  appliance.json('agent', 'set', 'far', '--data-way', 'ssh');
  const started = await startAndReachMiddle();
  const tunnels = childrenOfAgent('HostKeyAlias');
  expect(tunnels).toHaveLength(1);
  for (const pid of tunnels) process.kill(pid, 'SIGKILL');
  await finishes(started);
  expect(wentOnAt(started.job_id)[0]).toBeGreaterThan(4 * MIB);
});

it('goes on when the agent is killed and comes back', async () => {
  const started = await startAndReachMiddle();
  await agent.kill();
  await agent.start();
  await finishes(started);
  expect(wentOnAt(started.job_id)[0]).toBeGreaterThan(4 * MIB);
});

it.each(['SIGKILL', 'SIGTERM'])('goes on when the appliance gets %s and comes back', async (signal) => {
  const started = await startAndReachMiddle();
  if (signal === 'SIGKILL') await appliance.kill();
  else await appliance.stop();
  const safe = journalled();
  expect(safe).toBeGreaterThan(4 * MIB);
  await appliance.start(settings);
  expect(operator.job(started.job_id).status).toMatch(/pending|running/);
  await finishes(started);
  expect(operator.events('backup.completed').length).toBeGreaterThan(0);
});

it('has renewed its certificate by itself', () => {
  expect(agent.log()).toContain('the certificate is renewed');
});

it('fails cleanly when the disk is not the same any more', async () => {
  const { job_id } = await startAndReachMiddle();
  await agent.kill();
  appendFileSync(disk, bytesOf('more', MIB));
  await agent.start();
  await until('the job ended', () => !['pending', 'running'].includes(operator.job(job_id).status));
  expect(operator.job(job_id)).toMatchObject({ status: 'failed', error: { code: 'SNAPSHOT_LOST' } });
  const left = readdirSync(join(appliance.home, 'backups'), { recursive: true, encoding: 'utf8' });
  expect(left.filter((name) => /\.(partial|journal|written)$/.test(name))).toEqual([]);
});

it('ends at once when the agent is revoked, and nothing of it stays', async () => {
  const { job_id } = await startAndReachMiddle();
  appliance.json('agent', 'revoke', 'far');
  await until('the job ended', () => !['pending', 'running'].includes(operator.job(job_id).status));
  expect(operator.job(job_id)).toMatchObject({ status: 'failed', error: { code: 'AGENT_STATE' } });
  expect(await agent.ended()).toBe(12);
  expect(agent.log()).toContain('revoked');
  await until('its export is gone', () => readdirSync(join(appliance.home, 'run', 'agents')).length === 0);
});
