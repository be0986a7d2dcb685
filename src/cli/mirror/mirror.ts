import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { contextOf } from '../connection/context.ts';
import { type Column, print, printDone, say } from '../output.ts';
import { keyCommands } from './mirror-keys.ts';
import { number, type SettingOptions, settingsBody, withSettings } from './mirror-settings.ts';
import { workCommands } from './mirror-work.ts';

interface MirrorView {
  readonly name: string;
  readonly place: string;
  readonly mode: string;
  readonly encrypted: boolean;
  readonly read_only: boolean;
  readonly restore_points: number;
  readonly newest: string | null;
  readonly stored_bytes: number;
  readonly capabilities: Readonly<Record<string, unknown>> | null;
  readonly damaged?: readonly string[];
}

const columns: Column<MirrorView>[] = [
  { title: 'NAME', value: (row) => row.name },
  { title: 'PLACE', value: (row) => row.place },
  { title: 'MODE', value: (row) => `${row.mode}${row.encrypted ? ', encrypted' : ''}` },
  { title: 'STATE', value: (row) => (row.read_only ? 'read-only' : 'ready') },
  { title: 'POINTS', value: (row) => String(row.restore_points) },
  { title: 'NEWEST', value: (row) => row.newest?.slice(0, 19).replace('T', ' ') ?? '' },
  { title: 'STORED', value: (row) => formatBytes(row.stored_bytes) },
];
const nameOf = (row: MirrorView) => row.name;

interface PlaceOptions extends SettingOptions {
  readonly endpoint: string;
  readonly bucket: string;
  readonly region?: string;
  readonly prefix?: string;
  readonly accessKey: string;
  readonly secretKeyFile: string;
  readonly pathStyle: boolean;
  readonly tlsCa?: string;
  readonly passphraseFile?: string;
}

function withPlace(command: Command): Command {
  return withSettings(
    command
      .requiredOption('--endpoint <url>', 'of the S3 server, as https://s3.example.org')
      .requiredOption('--bucket <name>', 'the bucket')
      .option('--prefix <path>', 'where in the bucket')
      .option('--region <name>', 'as the server wants it (default us-east-1)')
      .requiredOption('--access-key <key>', 'the access key')
      .requiredOption('--secret-key-file <file>', 'holds the secret key; it is read at each use')
      .option('--path-style', 'the bucket is a part of the path (default)', true)
      .option('--no-path-style', 'the bucket is a part of the host name')
      .option('--tls-ca <file>', "PEM of the authority of the server's certificate")
      .option('--passphrase-file <file>', 'encrypts the mirror, or opens an encrypted one'),
  );
}

const placeBody = (name: string, options: PlaceOptions) => ({
  name,
  endpoint: options.endpoint,
  bucket: options.bucket,
  region: options.region,
  prefix: options.prefix,
  access_key: options.accessKey,
  secret_key_file: resolve(options.secretKeyFile),
  path_style: options.pathStyle,
  tls_ca_file: options.tlsCa === undefined ? undefined : resolve(options.tlsCa),
  passphrase_file: options.passphraseFile === undefined ? undefined : resolve(options.passphraseFile),
  ...settingsBody(options),
});

const path = (name: string) => `/mirrors/${encodeURIComponent(name)}`;

export function mirrorCommands(program: Command): void {
  const mirror = program.command('mirror').description('copies of all backups in S3');
  withPlace(mirror.command('add <name>').description('make a new mirror in a bucket'))
    .addOption(
      new Option('--mode <mode>', 'packed: small and few objects; plain: an object for each block')
        .choices(['packed', 'plain'])
        .default('packed'),
    )
    .option('--block-mib <n>', 'of the mode plain: size of a block', number)
    .option('--create-bucket', 'make the bucket, with object lock when --lock is given')
    .action(
      async (
        name: string,
        options: PlaceOptions & { mode: string; blockMib?: number; createBucket?: boolean },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const added = await client.call<MirrorView>('POST', '/mirrors', {
          ...placeBody(name, options),
          mode: options.mode,
          block_mib: options.blockMib,
          create_bucket: options.createBucket ?? false,
        });
        print(format, added, [added], columns, nameOf);
        if (added.encrypted)
          say(
            `Keep the passphrase apart from this appliance, or make a recovery key: sendense-ctl mirror key export ${name}`,
          );
        else say('It is not encrypted: whoever can read the bucket can read every disk.');
        say(`Upload what is there with: sendense-ctl mirror sync ${name}`);
      },
    );
  withPlace(
    mirror
      .command('attach <name>')
      .description('take a mirror that is there already, to read it or to go on with it'),
  )
    .option('--take-over', 'write to it from now on; the appliance before is gone for good')
    .action(async (name: string, options: PlaceOptions & { takeOver?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      const body = { ...placeBody(name, options), take_over: options.takeOver ?? false };
      const added = await client.call<MirrorView>('POST', '/mirrors/attach', body);
      print(format, added, [added], columns, nameOf);
      for (const point of added.damaged ?? []) say(`warning: ${point} cannot be read.`);
      say(`See what it holds with: sendense-ctl mirror points ${name}`);
    });
  mirror
    .command('list')
    .description('all mirrors')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ mirrors: MirrorView[] }>('GET', '/mirrors');
      print(format, answer, answer.mirrors, columns, nameOf);
    });
  mirror
    .command('show <name>')
    .description('one mirror, and what its server can do')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<MirrorView>('GET', path(name));
      print(format, answer, [answer], columns, nameOf);
      if (format === 'table') sayCapabilities(answer.capabilities);
    });
  mirror
    .command('probe <name>')
    .description('find out again what the server can do')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<Record<string, unknown>>('POST', `${path(name)}/probe`, {});
      if (format === 'table') sayCapabilities(answer);
      else print(format, answer, [name], [], (row) => row);
    });
  withSettings(mirror.command('set <name>').description('change how a mirror is used'))
    .option('--access-key <key>', 'other keys')
    .option('--secret-key-file <file>', 'holds the secret key')
    .option('--tls-ca <file>', "PEM of the authority of the server's certificate")
    .action(async (name: string, options: SettingOptions & Partial<PlaceOptions>, command: Command) => {
      const { client, format } = contextOf(command);
      const changed = await client.call<MirrorView>('PATCH', path(name), {
        ...settingsBody(options),
        access_key: options.accessKey,
        secret_key_file: options.secretKeyFile === undefined ? undefined : resolve(options.secretKeyFile),
        tls_ca_file: options.tlsCa === undefined ? undefined : resolve(options.tlsCa),
      });
      print(format, changed, [changed], columns, nameOf);
    });
  mirror
    .command('remove <name>')
    .description('forget a mirror; everything in the bucket stays')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const removed = await client.call<{ name: string; place: string }>('DELETE', path(name));
      printDone(
        format,
        removed,
        name,
        `The mirror "${name}" is forgotten; everything at ${removed.place} stays. Bring it back with: sendense-ctl mirror attach ${name} …`,
      );
    });
  workCommands(mirror);
  keyCommands(mirror);
}

function sayCapabilities(capabilities: Readonly<Record<string, unknown>> | null): void {
  for (const [key, value] of Object.entries(capabilities ?? {}))
    say(
      `  ${key.replaceAll('_', ' ').padEnd(20)} ${typeof value === 'boolean' ? (value ? 'yes' : 'no') : String(value)}`,
    );
}
