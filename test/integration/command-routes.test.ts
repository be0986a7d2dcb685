import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';

/** What `docs/cli.md` takes its roles from. */
const table = JSON.parse(
  readFileSync(new URL('../../scripts/reference/command-routes.json', import.meta.url), 'utf8'),
) as Record<string, string[] | Record<string, string[]>>;
const routesOf = (command: string): string[] => {
  const entry = table[command] ?? [];
  return Array.isArray(entry) ? entry : Object.values(entry).flat();
};

const home = mkdtempSync(join(tmpdir(), 'sd-routes-'));
const file = join(home, 'file');
let asked: string[] = [];
let server: Server;

beforeAll(async () => {
  mkdirSync(join(home, 'run'));
  writeFileSync(file, 'policies: []\n');
  // every request is refused, so that each command ends at the first one
  server = createServer((request, response) => {
    asked.push(`${request.method} ${(request.url ?? '').replace(/^\/api\/v1/, '').replace(/\?.*$/, '')}`);
    request.resume();
    response.writeHead(404, { 'content-type': 'application/problem+json' });
    response.end(JSON.stringify({ code: 'ROUTE_UNKNOWN', title: 'refused', status: 404 }));
  });
  await new Promise<void>((resolve) => {
    server.listen(join(home, 'run', 'sendensed.sock'), resolve);
  });
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(home, { recursive: true, force: true });
});
beforeEach(() => {
  asked = [];
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  vi.spyOn(process.stdout, 'write').mockReturnValue(true);
});

function commandsOf(command: Command, path: readonly string[]): string[][] {
  const below = command.commands.flatMap((child) => commandsOf(child, [...path, child.name()]));
  const hasAction = (command as unknown as { _actionHandler: unknown })._actionHandler !== null;
  return hasAction && path.length > 0 ? [[...path], ...below] : below;
}

/** What a command wants that takes not just any word. */
const more: Readonly<Record<string, string[]>> = {
  'vm add': ['--disk', file],
  'vm set': ['--before', 'true'],
  'agent set': ['--rate', '1MiB'],
  'backup pin': ['--reason', 'x'],
  'backup copy': ['--all'],
  'backup extract': ['--output', join(home, 'out')],
  'restore disk': ['--output', join(home, 'out')],
  'restore vm': ['--output', join(home, 'out')],
  'restore live': ['--backup-id', 'x1'],
  'restore test': ['--backup-id', 'x1'],
  'policy add': ['--vm', 'x'],
  'schedule export': ['--systemd'],
  'mirror key add': ['--passphrase-file', file],
  'repository set': ['--compression', 'zstd'],
};
const wordFor = (flags: string): string =>
  /file|ca\b/.test(flags) ? file : /endpoint|url/.test(flags) ? 'http://127.0.0.1:1' : 'x1';

/** The command with a word for everything that it needs. */
function lineFor(program: Command, path: readonly string[]): string[] {
  const command = path.reduce<Command | undefined>(
    (found, name) => found?.commands.find((child) => child.name() === name),
    program,
  );
  const given = more[path.join(' ')] ?? [];
  const args = command?.registeredArguments.filter(({ required }) => required).map(() => '1') ?? [];
  const needed =
    command?.options
      .filter(({ mandatory, long }) => mandatory && !given.includes(long ?? ''))
      .flatMap(({ long, flags, argChoices, required }) => [
        long ?? '',
        ...(required ? [argChoices?.[0] ?? wordFor(flags)] : []),
      ]) ?? [];
  return [...path, ...args, ...needed, ...given];
}

/** `/vms/x1` is `/vms/{vm_name}`. */
const isRoute = (route: string, request: string): boolean =>
  new RegExp(`^${route.replace(/\{\w+\}/g, '[^/]+')}$`).test(request);

const commands = commandsOf(createProgram('0'), []);

it('names each command, and no other', () => {
  expect(Object.keys(table).toSorted()).toEqual(commands.map((path) => path.join(' ')).toSorted());
});

/** They ask nobody, or only when they found what they need. */
const silent = new Set(['completion', 'help']);

it.each(commands.map((path) => [path.join(' '), path] as const))(
  '%s asks for what the table says',
  async (name, path) => {
    if (silent.has(name)) return;
    const program = createProgram('0');
    await program
      .parseAsync(['--home', home, ...lineFor(program, path)], { from: 'user' })
      .catch(() => undefined);
    expect(asked).not.toEqual([]);
    for (const request of asked)
      expect(
        routesOf(name).some((route) => isRoute(route, request)),
        `${name} asked for ${request}`,
      ).toBe(true);
  },
);
