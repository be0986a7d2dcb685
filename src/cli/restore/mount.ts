import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { diskNumber, mountModes } from '../choices.ts';
import { contextOf } from '../connection/context.ts';
import { type Format, print, printable, printDone, say } from '../output.ts';
import { extract } from './extract.ts';
import { lookCommands } from './look-inside.ts';

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

/** Aborted by the first Ctrl-C; what is half done is removed then. */
function untilInterrupted(): AbortSignal {
  const aborter = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => aborter.abort());
  return aborter.signal;
}

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
    .option('--force', 'replace what is there; folders are merged')
    .option('--keep-privileges', 'also setuid bits, device nodes and capabilities; for root')
    .addOption(modeOption())
    .addOption(passphraseOption())
    .action(
      async (
        options: MountOptions & { file: string; output: string; force?: boolean; keepPrivileges?: boolean },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const signal = untilInterrupted();
        const mount = await client.call<MountView>('POST', '/restore/mount', {
          backup_id: options.backupId,
          disk: options.disk,
          mount_mode: options.mode,
          passphrases: await passphrasesOf(options),
        });
        try {
          if (mount.degraded)
            say('warning: a journal could not be replayed; recent files may be missing or wrong.');
          const { file, output, force = false, keepPrivileges = false } = options;
          const request = { mountId: mount.mount_id, file, output, force, keepPrivileges, signal };
          const made = await extract(client, request);
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
  lookCommands(mount);
}
