import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { contextOf } from '../connection/context.ts';
import { type Format, print, printDone } from '../output.ts';

interface TargetView {
  readonly name: string;
  readonly kind: string;
  readonly place: string;
  readonly severity: string;
  readonly kinds: readonly string[];
  readonly waiting: number;
  readonly given_up: number;
  readonly last_error: string | null;
}

const collect = (text: string, all: string[]): string[] => [...all, text];
const absolute = (file: string | undefined) => (file === undefined ? undefined : resolve(file));
const place = (name: string, rest = '') => `/notify/targets/${encodeURIComponent(name)}${rest}`;

function port(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError('It must be the number of a port.');
  return Number(text);
}

const show = (format: Format, document: unknown, targets: readonly TargetView[]) =>
  print(
    format,
    document,
    targets,
    [
      { title: 'NAME', value: (target) => target.name },
      { title: 'KIND', value: (target) => target.kind },
      { title: 'PLACE', value: (target) => target.place },
      { title: 'FROM', value: (target) => target.severity },
      { title: 'EVENTS', value: (target) => target.kinds.join(' ') || 'all' },
      { title: 'WAITING', value: (target) => String(target.waiting) },
      { title: 'GIVEN UP', value: (target) => String(target.given_up) },
      { title: 'LAST ERROR', value: (target) => target.last_error ?? '' },
    ],
    (target) => target.name,
  );

interface Common {
  readonly severity: string;
  readonly event: string[];
  readonly caFile?: string;
}

const withCommon = (command: Command): Command =>
  command
    .addOption(
      new Option('--severity <severity>', 'the least that is told')
        .choices(['info', 'warning', 'error'])
        .default('warning'),
    )
    .option('--event <kind>', 'only these, as backup.failed or mirror.*; repeatable', collect, [])
    .option('--ca-file <file>', 'who vouches for the certificate of the server');

async function add(name: string, options: Common, given: object, command: Command): Promise<void> {
  const { client, format } = contextOf(command);
  const answer = await client.call<TargetView>('POST', '/notify/targets', {
    ...{ name, severity: options.severity, kinds: options.event },
    place: { ...given, ca_file: absolute(options.caFile) },
  });
  printDone(format, answer, name, `"${name}" is told of events. Try it: sendense-ctl notify test ${name}`);
}

export function notifyCommands(program: Command): void {
  const notify = program.command('notify').description('who is told of events');
  const adding = notify.command('add').description('tell somebody of events from now on');
  withCommon(
    adding
      .command('webhook <name>')
      .description('POST each event, signed, to a URL')
      .option('--to-url <url>', 'where to')
      .option('--to-url-file <file>', 'where to, when the URL is a secret itself')
      .requiredOption('--secret-file <file>', 'the key of the signatures'),
  ).action(
    async (
      name: string,
      options: Common & { toUrl?: string; toUrlFile?: string; secretFile: string },
      command: Command,
    ) =>
      await add(
        name,
        options,
        {
          ...{ kind: 'webhook', url: options.toUrl, url_file: absolute(options.toUrlFile) },
          secret_file: absolute(options.secretFile),
        },
        command,
      ),
  );
  withCommon(
    adding
      .command('smtp <name>')
      .description('mail each event')
      .requiredOption('--host <host>', 'the mail server')
      .option('--port <port>', 'default: 465 for tls, 587 for starttls, 25 for none', port)
      .addOption(
        new Option('--security <how>', 'how the connection is protected')
          .choices(['tls', 'starttls', 'none'])
          .default('starttls'),
      )
      .option('--user <name>', 'to log in as')
      .option('--password-file <file>', 'the password for that')
      .requiredOption('--from <address>', 'sender')
      .requiredOption('--to <address>', 'receiver; repeatable', collect, []),
  ).action(
    async (
      name: string,
      options: Common & {
        host: string;
        port?: number;
        security: string;
        user?: string;
        passwordFile?: string;
        from: string;
        to: string[];
      },
      command: Command,
    ) => {
      const { host, security, user, from, to } = options;
      const given = { kind: 'smtp', host, port: options.port, security, user, from, to };
      await add(name, options, { ...given, password_file: absolute(options.passwordFile) }, command);
    },
  );
  notify
    .command('list')
    .description('all of them, and what could not be told yet')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ targets: TargetView[] }>('GET', '/notify/targets');
      show(format, answer, answer.targets);
    });
  notify
    .command('show <name>')
    .description('one of them')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<TargetView>('GET', place(name));
      show(format, answer, [answer]);
    });
  notify
    .command('remove <name>')
    .description('tell it nothing any more')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      await client.call('DELETE', place(name));
      printDone(format, { name, removed: true }, name, `"${name}" is not told of events any more.`);
    });
  notify
    .command('test <name>')
    .description('send it a test now')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call('POST', place(name, '/test'));
      printDone(format, answer, name, `The test was sent to "${name}".`);
    });
}
