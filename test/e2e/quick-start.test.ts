import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { blocksOf, runShell } from '../support/page-blocks.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-quick-'));
afterAll(() => {
  for (const name of readdirSync(work)) {
    const pidFile = join(work, name, 'home', 'run', 'sendensed.pid');
    if (existsSync(pidFile)) process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGTERM');
  }
  rmSync(work, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
});

it('the commands of docs/quick-start.md bring a lost file back and leave nothing', async () => {
  const blocks = blocksOf('docs/quick-start.md');
  // ten to type, and one that cleans up; `setup` ran before any test could
  expect(blocks.map(({ kind }) => kind)).toEqual(['setup', ...Array(10).fill('')]);
  const script = blocks.filter(({ kind }) => kind === '').map(({ text }) => text);
  const { code, output } = await runShell(script.join('\n'), { TMPDIR: work }, 60);
  expect([code, output]).toEqual([0, expect.stringContaining('buy milk\n')]);
  expect(output).toMatch(/└ incr-/);
  expect(readdirSync(work)).toEqual([]);
}, 90_000);
