import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { diskFormats, diskNumber } from '../choices.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type JobView, waitForJob } from '../job/wait-for-job.ts';
import { type Format, print, printDone, say } from '../output.ts';

interface LiveView {
  readonly live_id: string;
  readonly backup_id: string;
  readonly writable: boolean;
  readonly state: string;
  readonly socket: string | null;
  readonly address: string | null;
  readonly port: number | null;
  readonly tls: boolean;
  readonly clients: number;
  readonly overlay_bytes: number;
  readonly expires_at: string;
  readonly psk?: { identity: string; key: string } | null;
  readonly disks: readonly {
    disk_id: number;
    size_bytes: number;
    connect: {
      uri: string;
      qemu: string;
      libvirt: string | null;
      nbd_client: string | null;
      nbdinfo: string;
      nbdcopy: string;
    };
  }[];
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** As in `90s`, `30m`, `4h`, `2d`. */
function seconds(text: string): number {
  const match = /^(\d{1,7})([smhd])$/.exec(text);
  const value = Number(match?.[1]) * (UNIT_SECONDS[match?.[2] ?? ''] ?? Number.NaN);
  if (!(value >= 1 && value <= 30 * 86_400))
    throw new InvalidArgumentError('It must be a time as in 30m, 4h or 2d, at most 30d.');
  return value;
}

function portNumber(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535)
    throw new InvalidArgumentError('It must be a port, from 1 to 65535.');
  return port;
}

const show = (format: Format, document: unknown, lives: readonly LiveView[]) =>
  print(
    format,
    document,
    lives,
    [
      { title: 'LIVE', value: (live) => live.live_id },
      { title: 'BACKUP', value: (live) => live.backup_id },
      { title: 'MODE', value: (live) => (live.writable ? 'writable' : 'read-only') },
      {
        title: 'WHERE',
        value: (live) => live.socket ?? `${live.address}:${live.port}${live.tls ? ' TLS' : ''}`,
      },
      { title: 'CLIENTS', value: (live) => String(live.clients) },
      { title: 'WRITTEN', value: (live) => (live.writable ? formatBytes(live.overlay_bytes) : '') },
      { title: 'EXPIRES', value: (live) => live.expires_at.slice(0, 19).replace('T', ' ') },
    ],
    (live) => live.live_id,
  );

interface LiveOptions {
  readonly backupId?: string;
  readonly disk?: number;
  readonly writable?: boolean;
  readonly tcp?: boolean;
  readonly port?: number;
  readonly tls?: boolean;
  readonly expires?: number;
  readonly forceExpiry?: boolean;
}

export function liveCommands(restore: Command): void {
  const live = restore
    .command('live')
    .description('serve a restore point at once, as NBD exports')
    .option('--backup-id <id>', 'the restore point')
    .option('--disk <n>', 'only this disk', diskNumber)
    .option('--writable', 'clients may write; it is thrown away at the end unless it is kept')
    .option('--tcp', 'on the configured address instead of a unix socket')
    .option('--port <n>', 'with --tcp: this port', portNumber)
    .option('--tls', 'with --tcp: TLS with a key; always on when the address is not loopback')
    .option('--expires <time>', 'end it after this time, as in 4h', seconds)
    .option('--force-expiry', 'then also while clients are connected')
    .action(async (options: LiveOptions, command: Command) => {
      if (options.backupId === undefined)
        command.error("error: required option '--backup-id <id>' not specified");
      const { client, format } = contextOf(command);
      const made = await client.call<LiveView>('POST', '/restore/live', {
        backup_id: options.backupId,
        disk: options.disk,
        writable: options.writable ?? false,
        tcp: options.tcp ?? false,
        port: options.port,
        tls: options.tls ?? false,
        expires_s: options.expires,
        force_expiry: options.forceExpiry ?? false,
      });
      show(format, made, [made]);
      tellConnections(made);
    });
  live
    .command('list')
    .description('all live exports')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ exports: LiveView[] }>('GET', '/restore/live');
      show(format, answer, answer.exports);
    });
  live
    .command('show <id>')
    .description('one live export, and how to connect to it')
    .action(async (id: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const found = await client.call<LiveView>('GET', `/restore/live/${encodeURIComponent(id)}`);
      show(format, found, [found]);
      tellConnections(found);
    });
  live
    .command('remove <id>')
    .description('end it; what was written to it is thrown away')
    .option('--disconnect', 'cut clients off')
    .action(async (id: string, options: { disconnect?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      await client.call(
        'DELETE',
        `/restore/live/${encodeURIComponent(id)}${query({ disconnect: options.disconnect })}`,
      );
      printDone(format, { live_id: id, removed: true }, id, `${id} is no longer served.`);
    });
  live
    .command('keep <id>')
    .description('make an image of its own from a writable export, with all that was written to it')
    .requiredOption('--output <file>', 'the file to make')
    .option('--disk <n>', 'which disk, if there are several', diskNumber)
    .addOption(new Option('--as <format>', 'kind of file to make').choices(diskFormats).default('qcow2'))
    .option('--force', 'overwrite an existing file')
    .option('--disconnect', 'cut clients off')
    .action(
      async (
        id: string,
        options: { output: string; disk?: number; as: string; force?: boolean; disconnect?: boolean },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const output = resolve(options.output);
        const job = await client.call<JobView>('POST', `/restore/live/${encodeURIComponent(id)}/keep`, {
          disk: options.disk,
          output,
          format: options.as,
          overwrite: options.force ?? false,
          disconnect: options.disconnect ?? false,
        });
        const done = await waitForJob(client, job.job_id);
        print(format, { ...done, output }, [output], [{ title: 'KEPT', value: (row) => row }], (row) => row);
      },
    );
}

function tellConnections(live: LiveView): void {
  if (live.psk) {
    say('The key for TLS, told only once; make the file on the client:');
    say(
      `  install -d -m 700 /root/sendense-live && (umask 077; echo '${live.psk.identity}:${live.psk.key}' > /root/sendense-live/keys.psk)`,
    );
  }
  for (const { disk_id, size_bytes, connect } of live.disks) {
    say(`disk ${disk_id}, ${formatBytes(size_bytes)}: ${connect.uri}`);
    for (const line of [connect.nbdinfo, connect.nbdcopy, connect.nbd_client, connect.libvirt])
      if (line !== null) say(`  ${line}`);
    say(`  qemu-system-x86_64 … ${connect.qemu}`);
  }
  say(`End it with: sendense-ctl restore live remove ${live.live_id}`);
}
