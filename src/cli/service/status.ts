import type { Command } from 'commander';
import { SendenseError } from '../../base/sendense-error.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { print, say } from '../output.ts';
import { type AbsentView, absentText } from '../policy/say-absent.ts';

interface CoverageView {
  readonly ok: boolean;
  readonly counts: Readonly<Record<string, number>>;
  readonly machines: readonly {
    readonly vm_name: string;
    readonly policies: readonly string[];
    readonly unprotected: string | null;
    readonly last_backup_at: string | null;
    readonly boot_test: { readonly outcome: string; readonly tested_at: string } | null;
    readonly problems: readonly { problem: string; severity: string; detail: string }[];
  }[];
  readonly not_shown: number;
  readonly absent: readonly (AbsentView & { readonly policy: string })[];
  readonly unkept_mirrors: readonly string[];
  readonly broken_policies: readonly { file: string; detail: string }[];
}

interface StatusView {
  readonly status: string;
  readonly version: string;
  readonly pid: number;
  readonly home: string;
  readonly running_jobs: number;
  readonly open_mounts: number;
  readonly coverage: CoverageView;
}

const problems = ['unprotected', 'overdue', 'failing', 'never_verified', 'not_mirrored', 'boot_failed'];

/** One line for each thing that is wrong. */
const rowsOf = ({ machines }: CoverageView) =>
  machines.flatMap(({ vm_name, problems: found, unprotected, policies, last_backup_at, boot_test }) => {
    if (found.length > 0) return found.map((one) => ({ vm_name, ...one }));
    const last = last_backup_at === null ? 'no restore point yet' : `last ${last_backup_at.slice(0, 16)}`;
    const booted =
      boot_test === null ? '' : `; boot test ${boot_test.outcome} ${boot_test.tested_at.slice(0, 16)}`;
    const detail = unprotected ?? `${policies.join(', ')}; ${last}${booted}`;
    return [{ vm_name, problem: unprotected === null ? 'ok' : 'excused', severity: '', detail }];
  });

/** Health of the daemon and of the protection: exit code 4 when a person should look. */
export function statusCommand(program: Command): void {
  program
    .command('status')
    .description('is the daemon well, and is every machine protected? Exit code 4 when somebody should look')
    .option('--all', 'also machines with nothing to say of')
    .action(async (options: { all?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      const status = await client.call<StatusView>('GET', `/status${query({ all: options.all })}`);
      const { coverage } = status;
      const { counts } = coverage;
      const rows = rowsOf(coverage);
      if (format === 'table') {
        say(
          `sendensed ${status.version} (${status.home}): ${status.status}, ${status.running_jobs} jobs, ${status.open_mounts} mounts`,
        );
        const told = problems.filter((one) => (counts[one] ?? 0) > 0).map((one) => `${counts[one]} ${one}`);
        say(
          `${counts['machines']} machines, ${counts['ok']} as they should be, ${counts['excused']} left out on purpose${told.length === 0 ? '' : `: ${told.join(', ')}`}`,
        );
        for (const { file, detail } of coverage.broken_policies)
          say(`The policy in ${file} cannot be read: ${detail}`);
        for (const { policy, ...one } of coverage.absent) say(`warning: ${absentText(policy, one)}`);
        for (const mirror of coverage.unkept_mirrors)
          say(
            `warning: nobody renews the locks of the mirror ${mirror} or deletes by its retention: sendense-ctl policy set NAME --mirror-schedule "daily at 04:00", or mirror set ${mirror} --no-upkeep`,
          );
      }
      if (format !== 'table' || rows.length > 0)
        print(
          format,
          status,
          rows,
          [
            { title: 'MACHINE', value: (row) => row.vm_name },
            { title: 'STATE', value: (row) => row.problem },
            { title: 'SEVERITY', value: (row) => row.severity },
            { title: 'DETAIL', value: (row) => row.detail },
          ],
          (row) => row.vm_name,
        );
      if (coverage.not_shown > 0) say(`${coverage.not_shown} more machines are not shown.`);
      if (!coverage.ok || status.status === 'degraded')
        throw new SendenseError('ATTENTION_NEEDED', { detail: whatIsWrong(status) });
    });
}

function whatIsWrong({ status, coverage: { counts, broken_policies, absent } }: StatusView): string {
  const cannotRun = new Set(absent.flatMap(({ what, policy }) => (what === 'machine' ? [] : [policy])));
  const parts = [
    ...(status === 'degraded' ? ['the daemon is degraded'] : []),
    ...(broken_policies.length > 0 ? [`${broken_policies.length} policies cannot be read`] : []),
    ...[...cannotRun].map((policy) => `the policy ${policy} cannot run`),
    ...problems.flatMap((one) => ((counts[one] ?? 0) > 0 ? [`${counts[one]} ${one.replace('_', ' ')}`] : [])),
  ];
  return parts.join(', ');
}
