import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { diskNumber, mountModes } from '../choices.ts';
import { query } from '../client.ts';
import { contextOf } from '../context.ts';
import { type Format, print, printable, printDone, say } from '../output.ts';
import { extract } from './extract.ts';

interface MountView {
  readonly mount_id: string;
  readonly backup_id: string;
  readonly mount_path: string;
  readonly mount_mode: string;
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

interface MountOptions {
  readonly backupId: string;
  readonly disk?: number;
  readonly mode?: string;
  readonly passphraseFile?: readonly string[];
}

/** One passphrase a file, without the end of its line. */
const passphrasesOf = async ({ passphraseFile }: MountOptions) =>
  passphraseFile === undefined
    ? undefined
    : await Promise.all(
        passphraseFile.map(async (file) => (await readFile(file, 'utf8')).replace(/\r?\n$/, '')),
      );
const passphraseOption = () =>
  new Option('--passphrase-file <file>', 'opens what is encrypted in the guest; repeatable').argParser(
    (value: string, all: string[] | undefined) => [...(all ?? []), value],
  );

const modeOption = () =>
  new Option('--mode <mode>', 'who reads the disks; as configured when not given').choices(mountModes);

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
      { title: 'MODE', value: (mount) => mount.mount_mode },
      { title: 'FILE SYSTEMS', value: parts },
      { title: 'EXPIRES', value: (mount) => mount.expires_at.slice(0, 19).replace('T', ' ') },
    ],
    (mount) => mount.mount_id,
  );

export function mountCommands(program: Command, backup: Command): void {
  backup
    .command('mount')
    .description('mount a restore point read-only')
    .requiredOption('--backup-id <id>', 'the restore point')
    .option('--path <dir>', 'where; an empty or new folder')
    .option('--disk <n>', 'only this disk', diskNumber)
    .addOption(modeOption())
    .addOption(passphraseOption())
    .action(async (options: MountOptions & { path?: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const mount = await client.call<MountView>('POST', '/restore/mount', {
        backup_id: options.backupId,
        path: options.path === undefined ? undefined : resolve(options.path),
        disk: options.disk,
        mount_mode: options.mode,
        passphrases: await passphrasesOf(options),
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
    .option('--disk <n>', 'only this disk', diskNumber)
    .option('--force', 'overwrite an existing file')
    .addOption(modeOption())
    .addOption(passphraseOption())
    .action(
      async (options: MountOptions & { file: string; output: string; force?: boolean }, command: Command) => {
        const { client, format } = contextOf(command);
        const mount = await client.call<MountView>('POST', '/restore/mount', {
          backup_id: options.backupId,
          disk: options.disk,
          mount_mode: options.mode,
          passphrases: await passphrasesOf(options),
        });
        try {
          if (mount.degraded)
            say('warning: a journal could not be replayed; recent files may be missing or wrong.');
          const { file, output, force = false } = options;
          const made = await extract(client, mount.mount_id, file, output, force);
          if (made === null) return;
          const document = { backup_id: mount.backup_id, file, ...made };
          printDone(format, document, made.output, `${printable(file)} is in ${made.output}`);
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
      const { client, format } = contextOf(command);
      await client.call('DELETE', `/restore/${encodeURIComponent(id)}`);
      printDone(format, { mount_id: id, removed: true }, id, `${id} is unmounted.`);
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
}
