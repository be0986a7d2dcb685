import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type JobView, waitForJob } from '../job/wait-for-job.ts';
import { type Column, print, printDone, say } from '../output.ts';
import { orphanCommand } from './orphans.ts';

interface RepositoryView {
  readonly name: string;
  readonly path: string;
  readonly compression?: string;
  readonly state?: string;
  readonly reason?: string | null;
  readonly since?: string;
  readonly available_bytes: number | null;
  readonly total_bytes: number | null;
  readonly used_bytes?: number;
  readonly growth_bytes_per_day?: number | null;
  readonly full_at?: string | null;
}

const sizeOf = (bytes: number | null) => (bytes === null ? '?' : formatBytes(bytes));

const columns: Column<RepositoryView>[] = [
  { title: 'NAME', value: (row) => row.name },
  { title: 'PATH', value: (row) => row.path },
  { title: 'COMPRESSION', value: (row) => row.compression ?? '' },
  {
    title: 'FREE',
    value: (row) => `${sizeOf(row.available_bytes)} of ${sizeOf(row.total_bytes)}`,
  },
];
const stateColumns: Column<RepositoryView>[] = [
  ...columns.slice(0, 1),
  { title: 'STATE', value: (row) => row.state ?? '' },
  ...columns.slice(1),
  { title: 'USED', value: (row) => formatBytes(row.used_bytes ?? 0) },
  { title: 'A DAY', value: (row) => growthText(row.growth_bytes_per_day ?? null) },
  { title: 'FULL', value: (row) => row.full_at?.slice(0, 10) ?? '' },
];

function growthText(bytes: number | null): string {
  if (bytes === null) return '?';
  return bytes < 0 ? `-${formatBytes(-bytes)}` : `+${formatBytes(bytes)}`;
}

/** What is wrong with a repository, for people. */
function sayReasons(rows: readonly RepositoryView[]): void {
  for (const { name, state, reason, since } of rows)
    if (reason) say(`"${name}" is ${state} since ${since}: ${reason}`);
}
const nameOf = (row: { readonly name: string }) => row.name;

interface AddOptions {
  readonly path: string;
  readonly mount?: string;
  readonly mountCheck: boolean;
}

export function repositoryCommands(program: Command): void {
  const repository = program.command('repository').description('where backups are kept');
  repository
    .command('list')
    .description('all repositories')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ repositories: RepositoryView[] }>('GET', '/repositories');
      print(format, answer, answer.repositories, stateColumns, nameOf);
      sayReasons(answer.repositories);
    });
  repository
    .command('show <name>')
    .description('one repository')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<RepositoryView>('GET', `/repositories/${encodeURIComponent(name)}`);
      print(format, answer, [answer], stateColumns, nameOf);
      sayReasons([answer]);
    });
  repository
    .command('add <name>')
    .description('use a folder as repository')
    .requiredOption('--path <dir>', 'an empty folder, or one that is a repository')
    .option('--mount <dir>', 'the mount point on which it must lie, or auto; as it lies now if not given')
    .option('--no-mount-check', 'it may lie anywhere, mounted or not')
    .action(async (name: string, options: AddOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const mount =
        options.mount === undefined || options.mount === 'auto' ? options.mount : resolve(options.mount);
      const body = { name, path: resolve(options.path), mount_check: options.mountCheck, mount };
      const added = await client.call<RepositoryView>('POST', '/repositories', body);
      print(format, added, [added], columns, nameOf);
    });
  repository
    .command('set <name>')
    .description('change how a repository keeps its layers')
    .addOption(
      new Option('--compression <way>', 'compress layers in the background after they were sealed')
        .choices(['none', 'zstd'])
        .makeOptionMandatory(),
    )
    .action(async (name: string, options: { compression: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const path = `/repositories/${encodeURIComponent(name)}`;
      const changed = await client.call<RepositoryView>('PATCH', path, options);
      print(format, changed, [changed], columns, nameOf);
    });
  repository
    .command('detach <name>')
    .description('let go of a repository, so that its file system can be unmounted')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const path = `/repositories/${encodeURIComponent(name)}/detach`;
      const answer = await client.call<RepositoryView>('POST', path);
      const sentence = `The repository "${name}" can be unmounted; it is opened again when it is mounted next.`;
      printDone(format, answer, name, sentence);
    });
  repository
    .command('test <name>')
    .description('prove that it can be written')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const path = `/repositories/${encodeURIComponent(name)}/test`;
      const answer = await client.call<RepositoryView>('POST', path);
      print(format, answer, [answer], columns, nameOf);
    });
  repository
    .command('remove <name>')
    .description('forget a repository; its files stay')
    .option('--keep-backups', 'even if it has backups; they come back with `repository add`')
    .action(async (name: string, options: { keepBackups?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      const removed = await client.call<{ name: string; path: string; backups: number }>(
        'DELETE',
        `/repositories/${encodeURIComponent(name)}${query({ keep_backups: options.keepBackups })}`,
      );
      const again = `sendense-ctl repository add ${name} --path ${removed.path}`;
      printDone(
        format,
        removed,
        name,
        `The repository "${name}" is forgotten; its files stay. Bring it back with: ${again}`,
      );
    });
  repository
    .command('attach <name>')
    .description('take a repository that is there already, perhaps of another appliance')
    .requiredOption('--path <dir>', 'its folder')
    .action(async (name: string, options: { path: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const body = { name, path: resolve(options.path) };
      const added = await client.call<RepositoryView & { machines: number; backups: number }>(
        'POST',
        '/repositories/attach',
        body,
      );
      print(format, added, [added], columns, nameOf);
      say(`${added.backups} backups of ${added.machines} machines lie there.`);
    });
  repository
    .command('rebuild <name>')
    .description('make the list of its backups anew from its files')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const started = await client.call<JobView>('POST', `/repositories/${encodeURIComponent(name)}/rebuild`);
      const job = await waitForJob(client, started.job_id);
      const differences = job.result ?? {};
      const count = (key: string) => String(differences[key] ?? 0);
      print(
        format,
        job,
        [job],
        ['machines', 'added', 'updated', 'removed', 'clashes', 'unreadable'].map((key) => ({
          title: key.toUpperCase(),
          value: () => count(key),
        })),
        () => job.job_id,
      );
    });
  orphanCommand(repository);
}
