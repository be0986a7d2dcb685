import { type Command, InvalidArgumentError } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { contextOf } from '../connection/context.ts';
import { waitForJob } from '../job/wait-for-job.ts';
import { print, printDone, say } from '../output.ts';
import { wholeNumber } from './pin.ts';

interface PointView {
  readonly backup_id: string;
  readonly completed_at: string;
  readonly action: 'keep' | 'delete';
  readonly reason: string;
  readonly bytes: number;
  readonly freed_bytes: number;
  readonly merged_bytes: number;
  readonly chain: readonly string[];
}

interface PlanView {
  readonly plan_id: string;
  readonly rules: string;
  readonly deletes: number;
  readonly keeps: number;
  readonly freed_bytes: number;
  readonly merged_bytes: number;
  readonly machines: readonly {
    readonly vm_name: string;
    readonly repository: string;
    readonly deletes_last_good: boolean;
    readonly points: readonly PointView[];
  }[];
}

interface PlanOptions extends RuleOptions {
  readonly vm?: string;
  readonly repository?: string;
}

export interface RuleOptions {
  readonly timeZone?: string;
  readonly keepLast?: number;
  readonly keepWithin?: string;
  readonly hourly?: number | string;
  readonly daily?: number | string;
  readonly weekly?: number | string;
  readonly monthly?: number | string;
  readonly yearly?: number | string;
}

/** `7`, or a duration as in `14d`; the daemon knows what is allowed. */
function countOrDuration(text: string): number | string {
  if (/^\d+$/.test(text)) return Number(text);
  if (!/^\d+[a-z]+$/.test(text))
    throw new InvalidArgumentError('It must be a count as in 7 or a time as in 14d.');
  return text;
}

/** Undefined when no rule was named: the configured ones hold then. */
export function rulesOf(options: RuleOptions): Record<string, unknown> | undefined {
  const { keepLast, keepWithin, hourly, daily, weekly, monthly, yearly, timeZone } = options;
  const rules = { keep_last: keepLast, keep_within: keepWithin, hourly, daily, weekly, monthly, yearly };
  const named = Object.entries(rules).filter(([, value]) => value !== undefined);
  if (named.length === 0) return undefined;
  return Object.fromEntries(timeZone === undefined ? named : [...named, ['time_zone', timeZone]]);
}

function freedText({ freed_bytes, merged_bytes }: { freed_bytes: number; merged_bytes: number }): string {
  if (merged_bytes === 0) return freed_bytes === 0 ? '' : formatBytes(freed_bytes);
  return freed_bytes === 0
    ? `≤ ${formatBytes(merged_bytes)}`
    : `${formatBytes(freed_bytes)} + ≤ ${formatBytes(merged_bytes)}`;
}

function showPlan(plan: PlanView, format: ReturnType<typeof contextOf>['format']): void {
  const rows = plan.machines.flatMap((machine) => machine.points.map((point) => ({ machine, point })));
  print(
    format,
    plan,
    rows,
    [
      { title: 'MACHINE', value: ({ machine }) => machine.vm_name },
      { title: 'REPOSITORY', value: ({ machine }) => machine.repository },
      { title: 'BACKUP', value: ({ point }) => point.backup_id },
      { title: 'COMPLETED', value: ({ point }) => point.completed_at.slice(0, 16).replace('T', ' ') },
      { title: 'ACTION', value: ({ point }) => (point.action === 'delete' ? 'DELETE' : 'keep') },
      { title: 'SIZE', value: ({ point }) => formatBytes(point.bytes) },
      { title: 'FREES', value: ({ point }) => freedText(point) },
      { title: 'WHY', value: ({ point }) => point.reason },
      { title: 'CHAIN', value: ({ point }) => point.chain.join('; ') },
    ],
    ({ point }) => point.backup_id,
  );
}

/** Retention rules as options. */
export const withRuleOptions = (command: Command): Command =>
  command
    .option('--keep-last <n>', 'keep the newest n', wholeNumber)
    .option('--keep-within <time>', 'keep everything of this time, as in 14d')
    .option(
      '--hourly <n|time>',
      'keep the newest of each hour: n of them, or those of a time',
      countOrDuration,
    )
    .option('--daily <n|time>', 'the same for days', countOrDuration)
    .option('--weekly <n|time>', 'the same for weeks', countOrDuration)
    .option('--monthly <n|time>', 'the same for months', countOrDuration)
    .option('--yearly <n|time>', 'the same for years', countOrDuration)
    .option('--time-zone <zone>', 'in which days are counted, as in Europe/Berlin');

export function pruneCommands(program: Command): void {
  const prune = program.command('prune').description('delete restore points that no retention rule keeps');
  withRuleOptions(
    prune
      .command('plan')
      .description('say for every restore point whether it stays and why; deletes nothing')
      .option('--vm <name>', 'only this machine')
      .option('--repository <name>', 'only there'),
  ).action(async (options: PlanOptions, command: Command) => {
    const { client, format } = contextOf(command);
    const rules = rulesOf(options);
    const plan = await client.call<PlanView>('POST', '/prune/plan', {
      ...(options.vm === undefined ? {} : { vm_name: options.vm }),
      ...(options.repository === undefined ? {} : { repository: options.repository }),
      ...(rules === undefined ? {} : { rules }),
    });
    showPlan(plan, format);
    say(`The rule set ${plan.rules}.`);
    if (plan.deletes === 0) {
      say('Nothing to delete.');
      return;
    }
    const emptied = plan.machines.filter((machine) => machine.deletes_last_good);
    for (const machine of emptied)
      say(`warning: "${machine.vm_name}" would lose its last good restore point; that needs --force.`);
    say(`${plan.deletes} to delete, ${plan.keeps} to keep; frees ${freedText(plan) || 'nothing at once'}.`);
    say(
      `Carry it out with: sendense-ctl prune apply --plan ${plan.plan_id}${emptied.length > 0 ? ' --force' : ''}`,
    );
  });
  prune
    .command('apply')
    .description('do exactly what a plan showed; refused when restore points have changed since')
    .requiredOption('--plan <id>', 'what `prune plan` printed')
    .option('--force', 'even if a machine loses its last good restore point')
    .option('--dry-run', 'only check that the plan still holds')
    .option('--wait', 'follow it to its end')
    .action(async (options: ApplyOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ job_id: string | null; deletes: string[] }>('POST', '/prune/apply', {
        plan_id: options.plan,
        force: options.force ?? false,
        dry_run: options.dryRun ?? false,
      });
      const title = options.dryRun ? 'WOULD DELETE' : 'DELETES';
      if (answer.job_id === null || !options.wait) {
        print(format, answer, answer.deletes, [{ title, value: (row) => row }], (row) => row);
        if (answer.job_id !== null) say(`Watch it with: sendense-ctl job watch ${answer.job_id}`);
        return;
      }
      const job = await waitForJob(client, answer.job_id);
      const { deleted = [], freed_bytes = 0 } = (job.result ?? {}) as {
        deleted?: string[];
        freed_bytes?: number;
      };
      const count = deleted.length === 1 ? 'One restore point was' : `${deleted.length} restore points were`;
      printDone(format, job, job.job_id, `${count} deleted; ${formatBytes(freed_bytes)} freed.`);
    });
}

interface ApplyOptions {
  readonly plan: string;
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly wait?: boolean;
}
