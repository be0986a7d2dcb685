import { type Command, InvalidArgumentError, Option } from 'commander';
import { type RuleOptions, rulesOf, withRuleOptions } from '../backup/prune.ts';
import { mibPerSecond } from '../choices.ts';

const collect = (value: string, all: string[] = []) => [...all, value];

/** `key=value`. */
export function labelPair(text: string): [string, string] {
  const match = /^([^=]+)=(.*)$/.exec(text);
  if (!match) throw new InvalidArgumentError('It must be a label as in tier=gold.');
  return [match[1] ?? '', match[2] ?? ''];
}
export const collectLabels = (text: string, all: Record<string, string> = {}): Record<string, string> => {
  const [key, value] = labelPair(text);
  return { ...all, [key]: value };
};

/** `22:00-06:00`; an empty one takes it away. */
function hours(text: string): { from: string; to: string } | null {
  if (text === '') return null;
  const match = /^(\d\d:\d\d)-(\d\d:\d\d)$/.exec(text);
  if (!match) throw new InvalidArgumentError('It must be hours as in 22:00-06:00.');
  return { from: match[1] ?? '', to: match[2] ?? '' };
}

function seconds(text: string): number {
  const match = /^(\d{1,6})(s|m|h)?$/.exec(text);
  if (!match) throw new InvalidArgumentError('It must be a time as in 90s, 10m or 2h.');
  const [, amount, unit] = match;
  return Number(amount) * (unit === 'h' ? 3600 : unit === 'm' ? 60 : 1);
}

function number(text: string): number {
  if (!/^\d{1,3}(\.\d+)?$/.test(text)) throw new InvalidArgumentError('It must be a number.');
  return Number(text);
}

export interface PolicyOptions extends RuleOptions {
  readonly description?: string;
  readonly vm?: string[];
  readonly pattern?: string[];
  readonly label?: Record<string, string>;
  readonly except?: string[];
  readonly runner?: string;
  readonly schedule?: string;
  readonly full?: string;
  readonly fullOn?: string;
  readonly repository?: string;
  readonly mirror?: string[];
  readonly pruneSchedule?: string;
  readonly verifySchedule?: string;
  readonly verifyPercent?: number;
  readonly mirrorSchedule?: string;
  readonly bootTestSchedule?: string;
  readonly expectSerial?: string;
  readonly expectAgent?: boolean;
  readonly before?: string;
  readonly after?: string;
  readonly priority?: number;
  readonly window?: { from: string; to: string } | null;
  readonly jitter?: number;
  readonly rate?: number;
  readonly grace?: number;
}

/** Options that `policy add` and `policy set` share. */
export function withPolicyOptions(command: Command): Command {
  return withRuleOptions(
    command
      .option('--description <text>', 'what it is for')
      .option('--vm <name>', 'a machine; repeatable', collect)
      .option('--pattern <pattern>', 'machines by name, as in "web*"; repeatable', collect)
      .option('--label <key=value>', 'machines that have all of these labels; repeatable', collectLabels)
      .option('--except <pattern>', 'but not these; repeatable', collect)
      .addOption(
        new Option('--runner <who>', 'who starts it: the daemon, timers of systemd, or nobody').choices([
          ...['daemon', 'systemd', 'none'],
        ]),
      )
      .option('--schedule <when>', 'of backups: "every 4h", "daily at 22:00" or cron; "" takes it away')
      .addOption(
        new Option('--full <period>', 'a full in each of these; else incremental for ever').choices([
          ...['never', 'daily', 'weekly', 'monthly'],
        ]),
      )
      .addOption(
        new Option('--full-on <day>', 'the day on which weeks of --full begin').choices([
          ...['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'],
        ]),
      )
      .option('--repository <name>', 'where to')
      .option(
        '--mirror <name>',
        'each new restore point goes there too; repeatable; "" takes all away',
        collect,
      )
      .option('--prune-schedule <when>', 'when retention deletes; else after each run of backups')
      .option('--verify-schedule <when>', 'when restore points are compared with their digests')
      .option('--verify-percent <n>', 'so much of the stored bytes each time', number)
      .option('--mirror-schedule <when>', 'when mirrors are brought up to date, besides after each backup')
      .option('--boot-test-schedule <when>', 'when the newest restore points are booted')
      .option('--expect-serial <regex>', 'of boot tests: a line of the serial console')
      .option('--expect-agent', 'of boot tests: the answer of the guest agent')
      .option('--before <command>', 'before the first backup of a run; "" takes it away')
      .option('--after <command>', 'after the last one; "" takes it away')
      .option('--priority <n>', 'from 0 to 100, the greater goes first', number)
      .option(
        '--window <from-to>',
        'hours in which jobs may begin, as in 22:00-06:00; "" takes it away',
        hours,
      )
      .option('--jitter <time>', 'begin up to so much later, as in 10m', seconds)
      .option('--rate <mib>', 'limit of each backup, MiB a second', mibPerSecond)
      .option('--grace <time>', 'overdue so long after it was due, as in 2h', seconds),
  );
}

const orNull = <T>(text: string | undefined, make: (text: string) => T): T | null | undefined =>
  text === undefined ? undefined : text === '' ? null : make(text);
const compact = (values: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

interface Before {
  readonly time_zone?: string;
  readonly machines?: Record<string, unknown>;
  readonly verify?: Record<string, unknown> | null;
  readonly boot_test?: Record<string, unknown> | null;
  readonly hooks?: Record<string, unknown>;
}

/** The fields that were named; of objects the rest stays as it was. Pure. */
export function fieldsOf(options: PolicyOptions, before: Before = {}): Record<string, unknown> {
  const { vm, pattern, label, except } = options;
  const machines = compact({ names: vm, patterns: pattern, labels: label, except });
  const rules = rulesOf(options);
  const verify = compact({ schedule: options.verifySchedule, percent: options.verifyPercent });
  const boot = compact({
    ...{ schedule: options.bootTestSchedule, expect_serial: options.expectSerial },
    expect_agent: options.expectAgent,
  });
  const hooks = compact({
    before: orNull(options.before, (text) => text),
    after: orNull(options.after, (text) => text),
  });
  const merged = (old: object | null | undefined, named: Record<string, unknown>) =>
    named['schedule'] === '' ? null : Object.keys(named).length === 0 ? undefined : { ...old, ...named };
  return compact({
    description: options.description,
    machines: merged(before.machines, machines),
    runner: options.runner,
    time_zone: options.timeZone,
    schedule: orNull(options.schedule, (text) => text),
    full: options.full,
    full_on: options.fullOn,
    repository: options.repository,
    mirrors: options.mirror?.filter((name) => name !== ''),
    retention: rules === undefined ? undefined : { ...rules, time_zone: undefined },
    prune: orNull(options.pruneSchedule, (schedule) => ({ schedule })),
    verify: merged(before.verify, verify),
    mirror: orNull(options.mirrorSchedule, (schedule) => ({ schedule })),
    boot_test: merged(before.boot_test, boot),
    hooks: merged(before.hooks, hooks),
    priority: options.priority,
    window: options.window,
    jitter_s: options.jitter,
    mib_per_second: options.rate,
    grace_s: options.grace,
  });
}
