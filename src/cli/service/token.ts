import { type Command, InvalidArgumentError, Option } from 'commander';
import { contextOf } from '../connection/context.ts';
import { type Format, print, printDone, say } from '../output.ts';

interface TokenView {
  readonly name: string;
  readonly status: string;
  readonly role: string;
  readonly vms: readonly string[];
  readonly labels: readonly { name: string; value: string }[];
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly last_used_at: string | null;
  readonly last_used_from: string | null;
}

const seconds = { m: 60, h: 3600, d: 86_400, w: 7 * 86_400, y: 365 * 86_400 } as const;

/** `30d`, `12h`: seconds. */
export function parseLifetime(text: string): number {
  const [, amount, unit] = /^(\d{1,6})([mhdwy])$/.exec(text) ?? [];
  const found = seconds[unit as keyof typeof seconds] as number | undefined;
  if (amount === undefined || found === undefined || Number(amount) === 0)
    throw new InvalidArgumentError('Write it as 90m, 12h, 30d, 8w or 1y.');
  return Number(amount) * found;
}

/** `team=web`. */
export function parseLabel(text: string): { name: string; value: string } {
  const [, name, value] = /^([^=]+)=(.*)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('Write it as NAME=VALUE.');
  return { name, value };
}

const collect =
  <T>(parse: (text: string) => T) =>
  (text: string, all: T[]): T[] => [...all, parse(text)];
const time = (text: string | null, otherwise: string) => text?.slice(0, 19).replace('T', ' ') ?? otherwise;
const place = (name: string, rest = '') => `/tokens/${encodeURIComponent(name)}${rest}`;

const machines = ({ vms, labels }: TokenView) =>
  [...vms, ...labels.map(({ name, value }) => `${name}=${value}`)].join(' ') || 'all';

const show = (format: Format, document: unknown, tokens: readonly TokenView[]) =>
  print(
    format,
    document,
    tokens,
    [
      { title: 'NAME', value: (token) => token.name },
      { title: 'ROLE', value: (token) => token.role },
      { title: 'MACHINES', value: machines },
      { title: 'STATE', value: (token) => token.status },
      { title: 'EXPIRES', value: (token) => time(token.expires_at, 'never') },
      {
        title: 'LAST USED',
        value: (token) => [time(token.last_used_at, 'never'), token.last_used_from ?? ''].join(' ').trim(),
      },
    ],
    (token) => token.name,
  );

/** The secret alone on stdout, so that it can go straight into a file. */
function showSecret(format: Format, answer: TokenView & { token: string }): void {
  if (format === 'json' || format === 'yaml') print(format, answer, [], [], () => '');
  else process.stdout.write(`${answer.token}\n`);
  say(
    `This is the only time that the secret of "${answer.name}" (${answer.role}, ${machines(answer)}) is shown.`,
  );
}

export function tokenCommands(program: Command): void {
  const token = program.command('token').description('who may use the API over TCP');
  token
    .command('create <name>')
    .description('make a token; its secret is shown this once')
    .addOption(
      new Option('--role <role>', 'what it may do')
        .choices(['viewer', 'restore', 'operator', 'admin'])
        .makeOptionMandatory(),
    )
    .option('--vm <name>', 'only for this machine; repeatable', collect(String), [])
    .option(
      '--label <name=value>',
      'only for machines that bear all of these; repeatable',
      collect(parseLabel),
      [],
    )
    .option('--expires <time>', 'as 12h, 30d or 1y; default: never', parseLifetime)
    .action(
      async (
        name: string,
        options: { role: string; vm: string[]; label: object[]; expires?: number },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const body = {
          name,
          role: options.role,
          vms: options.vm,
          labels: options.label,
          expires_s: options.expires,
        };
        showSecret(format, await client.call('POST', '/tokens', body));
      },
    );
  token
    .command('list')
    .description('all tokens in use')
    .option('--all', 'also those that are revoked')
    .action(async (options: { all?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ tokens: TokenView[] }>('GET', `/tokens?all=${options.all ?? false}`);
      show(format, answer, answer.tokens);
    });
  token
    .command('show <name>')
    .description('one token, without its secret')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<TokenView>('GET', place(name));
      show(format, answer, [answer]);
    });
  token
    .command('rotate <name>')
    .description('give it a new secret; the old one ends at once')
    .option('--expires <time>', 'from now; default: as it was', parseLifetime)
    .action(async (name: string, options: { expires?: number }, command: Command) => {
      const { client, format } = contextOf(command);
      showSecret(format, await client.call('POST', place(name, '/rotate'), { expires_s: options.expires }));
    });
  token
    .command('revoke <name>')
    .description('end it at once, also what is open with it')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<TokenView>('DELETE', place(name));
      printDone(format, answer, name, `The token "${name}" is revoked.`);
    });
  token
    .command('whoami')
    .description('who the appliance takes you for')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ who: string; from: string; role: string }>('GET', '/whoami');
      print(
        format,
        answer,
        [answer],
        [
          { title: 'WHO', value: ({ who }) => who },
          { title: 'FROM', value: ({ from }) => from },
          { title: 'ROLE', value: ({ role }) => role },
        ],
        ({ who }) => who,
      );
    });
}
