import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bin, TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf, makePlainDisk } from '../support/guest-disk.ts';

const MIB = 1024 * 1024;
const work = mkdtempSync(join(tmpdir(), 'sd-bad-'));
const appliance = new TestAppliance();
const file = (name: string) => join(work, name);
const slow = new FuseSource(file('slow'), file('slow.shown'), { bytesPerSecond: 4 * MIB });

beforeAll(async () => {
  makePlainDisk(file('disk'), 16);
  writeFileSync(file('slow'), bytesOf('slow', 32 * MIB));
  await slow.start();
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', file('disk'));
});
afterAll(async () => {
  await appliance.dispose();
  await slow.stop();
  rmSync(work, { recursive: true, force: true });
});

describe('the daemon', () => {
  it('keeps a second daemon away from the home', () => {
    const second = spawnSync(bin('sendensed'), ['--home', appliance.home], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect(second.stderr).toContain('(DAEMON_RUNNING)');
    expect(second.stderr).toContain(String(appliance.pid));
    expect(second.status).toBe(21);
    expect(appliance.ctl('job', 'list').code).toBe(0);
  });

  it('refuses settings that do not exist, and says where each comes from', async () => {
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    const config = join(appliance.home, 'etc', 'sendense.toml');
    mkdirSync(join(appliance.home, 'etc'), { recursive: true });
    const daemon = (...args: string[]) =>
      spawnSync(bin('sendensed'), ['--home', appliance.home, ...args], { encoding: 'utf8', timeout: 30_000 });
    for (const text of [
      '[chain]\nmax_dept = 5\n',
      '[chian]\n',
      '[chain]\nmax_depth = "5"\n',
      '[chain]\nmax_depth = 0\n',
      'broken [',
    ]) {
      writeFileSync(config, text);
      const result = daemon();
      expect(result.stderr, text).toContain('(CONFIG_INVALID)');
      expect(result.status, text).toBe(2);
    }
    writeFileSync(config, '[chain]\nmax_depth = 7\n');
    expect(daemon('--set', 'chain.depth=5').status).toBe(2);
    await appliance.start(['jobs.max_concurrent=3']);
    const shown = appliance.ctl('config', 'show', '--origin').stdout;
    expect(shown).toMatch(/chain\.max_depth +7 +\S*(file|toml)/);
    expect(shown).toMatch(/jobs\.max_concurrent +3 +\S*(flag|set|command)/);
    expect(shown).toMatch(/log\.level +info +default/);
  });

  it('stops cleanly in the middle of a backup', async () => {
    // a machine that is frozen is let go and not gone on with
    appliance.json('vm', 'add', 'one', '--disk', slow.path, '--before', 'true');
    const { job_id } = appliance.json<{ job_id: string }>('backup', 'start', '--vm', 'one');
    await sleep(300); // any moment will do
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    expect(appliance.processes('sendense-mover')).toEqual([]);
    expect(existsSync(join(appliance.home, 'run', 'sendensed.sock'))).toBe(false);
    expect(
      readdirSync(join(appliance.home, 'backups'), { recursive: true }).filter((name) =>
        /partial|written|tmp/.test(String(name)),
      ),
    ).toEqual([]);
    await appliance.start();
    expect(appliance.json<{ status: string; error: { code: string } }>('job', 'show', job_id)).toMatchObject({
      status: 'failed',
      error: { code: 'INTERRUPTED' },
    });
  });
});
