import { type Command, InvalidArgumentError, Option } from 'commander';
import { formatBytes } from '../base/units.ts';
import { contextOf } from './connection/context.ts';
import { type Format, print, printDone, say } from './output.ts';

interface AgentView {
  readonly name: string;
  readonly status: string;
  readonly connected: boolean;
  readonly key: string;
  readonly host_name: string;
  readonly version: string;
  readonly data_way: string;
  readonly rate_bytes: number;
  readonly windows: readonly { from: string; to: string; rate_bytes: number }[];
  readonly machines: readonly string[];
  readonly last_seen_at: string | null;
}

const place = (name: string, rest = '') => `/agents/${encodeURIComponent(name)}${rest}`;
const rateText = (bytes: number) => (bytes === 0 ? 'none' : `${formatBytes(bytes)}/s`);

const show = (format: Format, document: unknown, agents: readonly AgentView[]) =>
  print(
    format,
    document,
    agents,
    [
      { title: 'NAME', value: (agent) => agent.name },
      {
        title: 'STATE',
        value: (agent) =>
          agent.status === 'approved' ? (agent.connected ? 'connected' : 'away') : agent.status,
      },
      { title: 'HOST', value: (agent) => agent.host_name },
      { title: 'KEY', value: (agent) => agent.key },
      { title: 'VERSION', value: (agent) => agent.version },
      { title: 'DATA WAY', value: (agent) => agent.data_way },
      {
        title: 'LIMIT',
        value: (agent) =>
          [
            rateText(agent.rate_bytes),
            ...agent.windows.map(({ from, to, rate_bytes }) => `${from}-${to}=${rateText(rate_bytes)}`),
          ].join(' '),
      },
      { title: 'MACHINES', value: (agent) => agent.machines.join(' ') },
      {
        title: 'LAST SEEN',
        value: (agent) => agent.last_seen_at?.slice(0, 19).replace('T', ' ') ?? 'never',
      },
    ],
    (agent) => agent.name,
  );

/** `20MiB`, `500KiB`, `1GiB`, plain bytes, or `none`: bytes per second. */
export function parseRate(text: string): number {
  if (text === 'none' || text === '0') return 0;
  const match = /^(\d+(?:\.\d+)?)(KiB|MiB|GiB)?(?:\/s)?$/.exec(text);
  const unit = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }[match?.[2] ?? ''] ?? 1;
  const bytes = Math.round(Number(match?.[1]) * unit);
  if (!match || bytes < 1) throw new InvalidArgumentError('Write it as 20MiB, or none.');
  return bytes;
}

interface Window {
  readonly from: string;
  readonly to: string;
  readonly rate_bytes: number;
}

/** `08:00-18:00=5MiB`. */
export function parseWindow(text: string): Window {
  const match = /^(\d\d:\d\d)-(\d\d:\d\d)=(.+)$/.exec(text);
  if (!match) throw new InvalidArgumentError('Write it as 08:00-18:00=5MiB.');
  return { from: match[1] ?? '', to: match[2] ?? '', rate_bytes: parseRate(match[3] ?? '') };
}

interface SetOptions {
  dataWay?: string;
  rate?: number;
  window?: Window[];
  windows?: boolean;
  timeZone?: string;
}

export function agentCommands(program: Command): void {
  const agent = program.command('agent').description('capture agents on other hosts');
  agent
    .command('invite')
    .description('make a pairing code, good for one agent and for ten minutes')
    .option('--name <name>', 'how the agent will be called; default: it says so itself')
    .option('--auto-approve', 'who brings the code needs no approval')
    .action(async (options: { name?: string; autoApprove?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ code: string; expires_at: string; port: number }>(
        'POST',
        '/agents/invite',
        { name: options.name, auto_approve: options.autoApprove ?? false },
      );
      print(
        format,
        answer,
        [answer],
        [
          { title: 'CODE', value: ({ code }) => code },
          { title: 'GOOD UNTIL', value: ({ expires_at }) => expires_at.slice(0, 19).replace('T', ' ') },
        ],
        ({ code }) => code,
      );
      if (format === 'table')
        say(
          `On the other host: sendense-agent enroll --appliance THIS_HOST:${answer.port} --allow DIR, then type the code.`,
        );
    });
  agent
    .command('list')
    .description('all agents')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ agents: AgentView[] }>('GET', '/agents');
      show(format, answer, answer.agents);
    });
  agent
    .command('show <name>')
    .description('one agent')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<AgentView>('GET', place(name));
      show(format, answer, [answer]);
    });
  agent
    .command('approve <name>')
    .description('let a waiting agent in; compare its key with what it printed')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<AgentView>('POST', place(name, '/approve'));
      show(format, answer, [answer]);
    });
  agent
    .command('reject <name>')
    .description('send a waiting agent away')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      await client.call('POST', place(name, '/reject'));
      printDone(format, { name, rejected: true }, name, `The agent "${name}" is rejected.`);
    });
  agent
    .command('revoke <name>')
    .description('shut an agent out at once, also from what it does just now')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<AgentView>('POST', place(name, '/revoke'));
      show(format, answer, [answer]);
    });
  agent
    .command('remove <name>')
    .description('forget a revoked agent')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      await client.call('DELETE', place(name));
      printDone(format, { name, removed: true }, name, `The agent "${name}" is forgotten.`);
    });
  agent
    .command('set <name>')
    .description('change the data way and the limits of an agent')
    .addOption(new Option('--data-way <way>', 'how its bytes come here').choices(['local', 'ssh', 'tls']))
    .option('--rate <rate>', 'most that it sends, such as 20MiB per second; none: no limit', parseRate)
    .option(
      '--window <from-to=rate>',
      'another limit for a part of the day, as in 08:00-18:00=5MiB; repeatable, replaces earlier ones',
      (text: string, all: Window[] | undefined) => [...(all ?? []), parseWindow(text)],
    )
    .option('--no-windows', 'the same limit all day')
    .option('--time-zone <name>', 'in which the parts of the day are meant; default: UTC')
    .action(async (name: string, options: SetOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<AgentView>('PATCH', place(name), {
        data_way: options.dataWay,
        rate_bytes: options.rate,
        windows: options.window ?? (options.windows === false ? [] : undefined),
        time_zone: options.timeZone,
      });
      show(format, answer, [answer]);
    });
  agent
    .command('discover <name>')
    .description('what an agent could back up')
    .addOption(new Option('--kind <kind>', 'kind of machines').choices(['image', 'libvirt']).default('image'))
    .option('--uri <uri>', 'of libvirt, as the agent sees it', 'qemu:///system')
    .action(async (name: string, options: { kind: string; uri: string }, command: Command) => {
      const { client, format } = contextOf(command);
      interface Found {
        readonly name: string;
        readonly disks: readonly { key: string; format: string; sizeBytes?: number; size_bytes?: number }[];
      }
      const answer = await client.call<{ machines: Found[] }>('POST', place(name, '/discover'), {
        kind: options.kind,
        place: options.uri,
      });
      print(
        format,
        answer,
        answer.machines,
        [
          { title: 'NAME', value: (found) => found.name },
          {
            title: 'DISKS',
            value: (found) => found.disks.map((disk) => `${disk.key} (${disk.format})`).join(' '),
          },
        ],
        (found) => found.name,
      );
    });
}
