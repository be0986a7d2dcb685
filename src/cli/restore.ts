import { createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, rename, rm, utimes } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { runPiped } from '../base/process.ts';
import { SendenseError } from '../base/sendense-error.ts';
import { formatBytes } from '../base/units.ts';
import { type Client, query } from './client.ts';
import { contextOf } from './context.ts';
import { type Format, print, say } from './output.ts';
import { type JobView, waitForJob } from './wait-for-job.ts';

interface MountView {
  readonly mount_id: string;
  readonly backup_id: string;
  readonly mount_path: string;
  readonly degraded: boolean;
  readonly expires_at: string;
  readonly partitions: readonly {
    key: string;
    fs_type: string | null;
    label: string | null;
    size_bytes: number;
    status: string;
    degraded: string | null;
    detail: string | null;
  }[];
}
interface FileView {
  readonly name: string;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  readonly mtime: string;
  readonly target?: string;
}

const parts = (mount: MountView) =>
  mount.partitions
    .map(
      (part) =>
        `${part.key}:${part.fs_type ?? '?'}${part.status === 'mounted' ? (part.degraded === null ? '' : '(degraded)') : `(${part.status})`}`,
    )
    .join(' ');
const show = (format: Format, document: unknown, mounts: readonly MountView[]) =>
  print(
    format,
    document,
    mounts,
    [
      { title: 'MOUNT', value: (mount) => mount.mount_id },
      { title: 'BACKUP', value: (mount) => mount.backup_id },
      { title: 'PATH', value: (mount) => mount.mount_path },
      { title: 'FILE SYSTEMS', value: parts },
      { title: 'EXPIRES', value: (mount) => mount.expires_at.slice(0, 19).replace('T', ' ') },
    ],
    (mount) => mount.mount_id,
  );

export function restoreCommands(program: Command, backup: Command): void {
  backup
    .command('mount')
    .description('mount a restore point read-only')
    .requiredOption('--backup-id <id>', 'the restore point')
    .option('--path <dir>', 'where; an empty or new folder')
    .option('--disk <n>', 'only this disk')
    .action(async (options: { backupId: string; path?: string; disk?: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const mount = await client.call<MountView>('POST', '/restore/mount', {
        backup_id: options.backupId,
        path: options.path === undefined ? undefined : resolve(options.path),
        disk: numberOf(options.disk),
      });
      show(format, mount, [mount]);
      if (mount.degraded)
        say('warning: a journal could not be replayed; recent files may be missing or wrong.');
      say(`Unmount it with: sendense-ctl mount remove ${mount.mount_id}`);
    });
  backup
    .command('extract')
    .description('get a file or folder out of a restore point')
    .requiredOption('--backup-id <id>', 'the restore point')
    .requiredOption('--file <path>', 'path inside the machine')
    .requiredOption('--output <path>', 'where to put it; - for stdout')
    .option('--disk <n>', 'only this disk')
    .option('--force', 'overwrite an existing file')
    .action(
      async (
        options: { backupId: string; file: string; output: string; disk?: string; force?: boolean },
        command: Command,
      ) => {
        const { client } = contextOf(command);
        const mount = await client.call<MountView>('POST', '/restore/mount', {
          backup_id: options.backupId,
          disk: numberOf(options.disk),
        });
        try {
          if (mount.degraded)
            say('warning: a journal could not be replayed; recent files may be missing or wrong.');
          await extract(client, mount.mount_id, options.file, options.output, options.force ?? false);
        } finally {
          await client.call('DELETE', `/restore/${mount.mount_id}`);
        }
      },
    );

  const mount = program.command('mount').description('mounted restore points');
  mount
    .command('list')
    .description('all open mounts')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ mounts: MountView[] }>('GET', '/restore/mounts');
      show(format, answer, answer.mounts);
    });
  mount
    .command('remove <id>')
    .description('unmount')
    .action(async (id: string, _options, command: Command) => {
      await contextOf(command).client.call('DELETE', `/restore/${encodeURIComponent(id)}`);
      say(`${id} is unmounted.`);
    });
  mount
    .command('files <id>')
    .description('list a folder')
    .option('--path <dir>', 'the folder', '/')
    .action(async (id: string, options: { path: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const files: FileView[] = [];
      let cursor: string | null = null;
      do {
        const page: { files: FileView[]; next_cursor: string | null } = await client.call(
          'GET',
          `/restore/${encodeURIComponent(id)}/files${query({ path: options.path, limit: 1000, cursor: cursor ?? undefined })}`,
        );
        files.push(...page.files);
        cursor = page.next_cursor;
      } while (cursor !== null);
      print(
        format,
        { path: options.path, files },
        files,
        [
          { title: 'TYPE', value: (file) => file.type },
          { title: 'MODE', value: (file) => file.mode.toString(8).padStart(4, '0') },
          { title: 'SIZE', value: (file) => formatBytes(file.size) },
          { title: 'MODIFIED', value: (file) => file.mtime.slice(0, 19).replace('T', ' ') },
          {
            title: 'NAME',
            value: (file) => (file.target === undefined ? file.name : `${file.name} -> ${file.target}`),
          },
        ],
        (file) => file.name,
      );
    });

  program
    .command('restore')
    .description('bring whole disks back')
    .command('disk')
    .description('write one disk of a restore point to a file')
    .requiredOption('--backup-id <id>', 'the restore point')
    .requiredOption('--output <file>', 'the file to make')
    .option('--disk <n>', 'which disk', '0')
    .option('--as <format>', 'raw or qcow2', 'raw')
    .option('--force', 'overwrite an existing file')
    .action(
      async (
        options: { backupId: string; output: string; disk: string; as: string; force?: boolean },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const output = resolve(options.output);
        const job = await client.call<JobView>('POST', '/restore/disk', {
          backup_id: options.backupId,
          disk: numberOf(options.disk),
          output,
          format: options.as,
          overwrite: options.force ?? false,
        });
        const done = await waitForJob(client, job.job_id);
        print(
          format,
          { ...done, output },
          [output],
          [{ title: 'RESTORED', value: (row) => row }],
          (row) => row,
        );
      },
    );
}

function numberOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,4}$/.test(text))
    throw new SendenseError('REQUEST_INVALID', { detail: `--disk takes a number, not "${text}"` });
  return Number(text);
}

async function extract(
  client: Client,
  mountId: string,
  file: string,
  output: string,
  force: boolean,
): Promise<void> {
  const answer = await client.open(
    'GET',
    `/restore/${mountId}/download${query({ path: file, format: undefined })}`,
  );
  if (output === '-') {
    await pipeline(answer, process.stdout, { end: false });
    return;
  }
  const target = resolve(output);
  if (answer.headers['x-sendense-kind'] === 'directory') await unpack(answer, target);
  else await saveFile(answer, target, force);
  say(`${file} is in ${target}`);
}

/** Under a temporary name until it is whole: a cut download must not look like a file. */
async function saveFile(answer: IncomingMessage, target: string, force: boolean): Promise<void> {
  const existing = await lstat(target).catch(() => null);
  const path = existing?.isDirectory() ? join(target, nameOf(answer)) : target;
  if (!force && (await lstat(path).catch(() => null)) !== null) {
    answer.destroy();
    throw new SendenseError('OUTPUT_EXISTS', { path });
  }
  const partial = `${path}.sendense-partial`;
  try {
    await pipeline(answer, createWriteStream(partial, { mode: 0o600 }));
    await chmod(partial, Number.parseInt(String(answer.headers['x-sendense-mode'] ?? '600'), 8) & 0o777);
    const mtime = new Date(String(answer.headers['x-sendense-mtime']));
    if (!Number.isNaN(mtime.getTime())) await utimes(partial, mtime, mtime);
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

function nameOf(answer: IncomingMessage): string {
  const encoded =
    /filename\*=UTF-8''([^;]+)/.exec(String(answer.headers['content-disposition']))?.[1] ?? 'file';
  // a name out of a guest must not choose another folder
  return decodeURIComponent(encoded).replaceAll('/', '_').replaceAll('\0', '_');
}

async function unpack(answer: IncomingMessage, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const tar = runPiped('tar', [
    '--zstd',
    '--extract',
    '--file=-',
    '--xattrs',
    '--no-overwrite-dir',
    `--directory=${target}`,
  ]);
  await pipeline(answer, tar.stdin);
  await tar.done;
}
