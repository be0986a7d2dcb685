import { type Command, InvalidArgumentError } from 'commander';
import { type RuleOptions, rulesOf, withRuleOptions } from '../backup/prune.ts';

export interface SettingOptions extends RuleOptions {
  readonly level?: number;
  readonly auto?: boolean;
  readonly vm?: readonly string[];
  readonly mibPerS?: number;
  readonly rateWindow?: readonly ReturnType<typeof rateWindow>[];
  readonly lock?: { mode: string; days: number };
  readonly keepAll?: boolean;
  readonly upkeep?: boolean;
  readonly graceHours?: number;
}

export const number = (text: string): number => {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('It must be a number.');
  return Number(text);
};

/** `08:00-18:00=5` */
function rateWindow(text: string) {
  const match = /^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})=(\d+(?:\.\d+)?)$/.exec(text);
  const [a = 0, b = 0, c = 0, d = 0, rate = 0] = match?.slice(1).map(Number) ?? [];
  if (!match || a > 23 || b > 59 || c > 23 || d > 59)
    throw new InvalidArgumentError('It must be like 08:00-18:00=5, in MiB per second.');
  return { from_minute: a * 60 + b, to_minute: c * 60 + d, mib_per_s: rate };
}

/** `compliance:30` */
function lockRule(text: string) {
  const match = /^(governance|compliance):(\d{1,5})d?$/.exec(text);
  if (!match) throw new InvalidArgumentError('It must be like governance:30 or compliance:30, in days.');
  return { mode: String(match[1]), days: Number(match[2]) };
}

/** The fields that were named. Pure. */
export function settingsBody(options: SettingOptions) {
  return {
    zstd_level: options.level,
    automatic: options.auto,
    vms: options.vm,
    mib_per_s: options.mibPerS,
    rate_windows: options.rateWindow,
    lock: options.lock,
    retention: options.keepAll ? {} : rulesOf(options),
    upkeep: options.upkeep,
    grace_hours: options.graceHours,
  };
}

const many =
  <T>(parse: (text: string) => T) =>
  (text: string, all: readonly T[] | undefined) => [...(all ?? []), parse(text)];

/** Options of `mirror add`, `attach` and `set`. */
export function withSettings(command: Command): Command {
  return withRuleOptions(
    command
      .option('--level <n>', 'of zstd; 0 compresses nothing (default 1)', number)
      .option('--auto', 'upload each new backup by itself (default)')
      .option('--no-auto', 'only upload when asked')
      .option('--vm <name>', 'only this machine; repeatable', many(String))
      .option('--mib-per-s <n>', 'highest speed', number)
      .option(
        '--rate-window <window>',
        'another speed at a time of day, as 08:00-18:00=5; repeatable',
        many(rateWindow),
      )
      .option('--lock <rule>', 'object lock for so many days, as governance:30 or compliance:30', lockRule)
      .option('--keep-all', 'no retention in the mirror any more')
      .option('--upkeep', 'mirror runs of policies renew locks, delete by retention and collect (default)')
      .option('--no-upkeep', 'locks, retention and collecting only by hand')
      .option('--grace-hours <n>', 'between condemning and deleting (default 24)', number),
  );
}
