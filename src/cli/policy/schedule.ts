import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { print, say } from '../output.ts';
import { nextRunColumns } from './preview.ts';

type NextRunView = Parameters<(typeof nextRunColumns)[number]['value']>[0];

interface UnitsView {
  /** The first line of each file. */
  readonly mark: string;
  readonly files: readonly { readonly name: string; readonly content: string }[];
}

function runsOf(text: string): number {
  if (!/^[1-9]\d?$/.test(text)) throw new InvalidArgumentError('It must be a number from 1 to 99.');
  return Number(text);
}

export function scheduleCommands(program: Command): void {
  const schedule = program.command('schedule').description('when policies run');
  schedule
    .command('list')
    .description('what comes next, soonest first')
    .option('--count <n>', 'runs of each kind of each policy', runsOf)
    .action(async (options: { count?: number }, command: Command) => {
      const { client, format } = contextOf(command);
      const path = `/schedules${query({ count: options.count })}`;
      const answer = await client.call<{ schedules: NextRunView[] }>('GET', path);
      print(format, answer, answer.schedules, nextRunColumns, (row) => `${row.policy} ${row.kind}`);
    });
  schedule
    .command('export')
    .description('write timers of systemd for the policies with the runner systemd')
    .requiredOption('--systemd', 'as units of systemd')
    .requiredOption('--output <dir>', 'where to, as /etc/systemd/system')
    .option('--ctl <path>', 'the program that the services call', '/usr/bin/sendense-ctl')
    .option('--dry-run', 'only tell the names')
    .action(async (options: { output: string; ctl: string; dryRun?: boolean }, command: Command) => {
      const { client, format, home } = contextOf(command);
      const place = home === null ? undefined : resolve(home);
      const units = await client.call<UnitsView>(
        'GET',
        `/schedules/systemd${query({ ctl: resolve(options.ctl), home: place })}`,
      );
      const folder = resolve(options.output);
      const stale = await staleIn(folder, units);
      if (!options.dryRun) {
        await mkdir(folder, { recursive: true });
        for (const { name, content } of units.files)
          await writeFile(join(folder, name), content, { mode: 0o644 });
        for (const name of stale) await rm(join(folder, name));
      }
      print(
        format,
        { folder, written: units.files.map(({ name }) => name), removed: stale },
        units.files,
        [{ title: options.dryRun ? 'WOULD WRITE' : 'WRITTEN', value: ({ name }) => join(folder, name) }],
        ({ name }) => name,
      );
      for (const name of stale)
        say(`${options.dryRun ? 'Would remove' : 'Removed'} ${name}: no policy has it any more.`);
      const timers = units.files.map(({ name }) => name).filter((name) => name.endsWith('.timer'));
      if (timers.length === 0)
        say('No policy has the runner systemd: sendense-ctl policy set NAME --runner systemd');
      else if (!options.dryRun)
        say(`Let them run with: systemctl daemon-reload && systemctl enable --now ${timers.join(' ')}`);
    });
}

/** Of an earlier export; a file that somebody wrote by hand is left alone. */
async function staleIn(folder: string, { mark, files }: UnitsView): Promise<string[]> {
  const present = await readdir(folder).catch(() => []);
  const kept = new Set(files.map(({ name }) => name));
  const stale: string[] = [];
  for (const name of present) {
    if (!/^sendense-[a-z-]+@[^/]*\.(timer|service)$/.test(name) || kept.has(name)) continue;
    if ((await readFile(join(folder, name), 'utf8')).startsWith(mark)) stale.push(name);
  }
  return stale;
}
