import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

const shipped = resolve('systemd');
const MAX_EXPOSURE = 3.0;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sd-units-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The units as they are shipped, but with the programs of the checkout: none is installed here. */
function units(): string[] {
  const names = readdirSync(shipped).filter((name) => /\.(service|socket|timer)$/.test(name));
  for (const name of names) {
    const text = readFileSync(join(shipped, name), 'utf8');
    writeFileSync(join(folder, name), text.replaceAll('=/usr/bin/', `=${resolve('bin')}/`));
  }
  return names.map((name) => join(folder, name.replace('@', '@nightly')));
}

const verify = (files: readonly string[]) => {
  const { stdout, stderr, status } = spawnSync(
    'systemd-analyze',
    ['verify', '--man=no', '--recursive-errors=no', ...files],
    { encoding: 'utf8', env: { ...process.env, SYSTEMD_UNIT_PATH: `${folder}:` } },
  );
  return { said: stdout + stderr, status };
};

it('systemd has nothing to say against any unit, and would', () => {
  const files = units();
  expect(files.length).toBeGreaterThan(10);
  for (const name of readdirSync(folder).filter((name) => name.includes('@')))
    writeFileSync(join(folder, name.replace('@', '@nightly')), readFileSync(join(folder, name)));
  expect(verify(files)).toEqual({ said: '', status: 0 });
  const broken = join(folder, 'sendensed.service');
  writeFileSync(broken, readFileSync(broken, 'utf8').replace('WatchdogSec=60', 'WatchdogSec=often'));
  expect(verify([broken]).said).toContain('Failed to parse');
});

it.each(['sendensed', 'sendense-agent'])('%s is exposed no more than it has to be', (name) => {
  const file = join(shipped, `${name}.service`);
  const text = execFileSync('systemd-analyze', ['security', '--offline=true', '--no-pager', file], {
    encoding: 'utf8',
  });
  const exposure = Number(/Overall exposure level for .*: (\d+\.\d)/.exec(text)?.[1]);
  expect(exposure).toBeGreaterThan(0);
  expect(exposure).toBeLessThanOrEqual(MAX_EXPOSURE);
});
