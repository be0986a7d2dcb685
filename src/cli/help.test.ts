import { afterEach, expect, it, vi } from 'vitest';
import { createProgram } from './program.ts';

afterEach(() => vi.restoreAllMocks());

/** What it prints, and the code that commander ends with. */
async function run(...words: string[]): Promise<{ said: string; exit: unknown }> {
  let said = '';
  const take = (text: unknown) => {
    said += String(text);
    return true;
  };
  vi.spyOn(process.stdout, 'write').mockImplementation(take);
  vi.spyOn(process.stderr, 'write').mockImplementation(take);
  const exit = await createProgram('0')
    .parseAsync(words, { from: 'user' })
    .then(
      () => null,
      (error: { exitCode?: unknown }) => error.exitCode,
    );
  return { said, exit };
}

it.each([
  [
    ['help', 'backup', 'start'],
    ['backup', 'start', '--help'],
  ],
  [
    ['help', 'mirror', 'key', 'add'],
    ['mirror', 'key', 'add', '--help'],
  ],
  [
    ['help', 'vm'],
    ['vm', '--help'],
  ],
  [['help'], ['--help']],
])('%j says the same as %j', async (first, second) => {
  const [one, other] = [await run(...first), await run(...second)];
  expect(one).toEqual(other);
  expect(one.exit).toBe(0);
});

it('tells what there is when a command is not known', async () => {
  const { said, exit } = await run('help', 'backup', 'nope');
  expect(said).toContain("unknown command 'backup nope'; there are: start, now, list");
  expect(exit).not.toBe(0);
});
