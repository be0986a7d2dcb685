import { type Command, InvalidArgumentError } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { type RuleOptions, rulesOf, withRuleOptions } from '../backup/prune.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type JobView, waitForJob } from '../job/wait-for-job.ts';
import { print, printDone, say } from '../output.ts';

interface PointView {
  readonly backup_id: string;
  readonly vm_name: string;
  readonly completed_at: string;
  readonly whole: boolean;
  readonly locked_until: string | null;
  readonly size_bytes: number;
  readonly stored_bytes: number;
  readonly disks: readonly { disk_id: number; name: string }[];
}

interface PlanView {
  readonly plan: string;
  readonly last_of: readonly string[];
  readonly points: readonly {
    backup_id: string;
    vm_name: string;
    completed_at: string;
    action: 'keep' | 'delete';
    reason: string;
  }[];
}

const number = (text: string): number => {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('It must be a number.');
  return Number(text);
};
const path = (name: string) => `/mirrors/${encodeURIComponent(name)}`;
const time = (text: string | null) => text?.slice(0, 19).replace('T', ' ') ?? '';

/** Starts a job with a mirror and prints its outcome. */
async function work(
  command: Command,
  route: string,
  body: unknown,
  keys: readonly string[],
): Promise<JobView> {
  const { client, format } = contextOf(command);
  const started = await client.call<JobView>('POST', route, body);
  const job = await waitForJob(client, started.job_id);
  const shownOf = (key: string) => {
    const value = job.result?.[key];
    return typeof value === 'number' && key.endsWith('bytes') ? formatBytes(value) : String(value ?? '');
  };
  print(
    format,
    job,
    [job],
    keys.map((key) => ({ title: key.toUpperCase().replaceAll('_', ' '), value: () => shownOf(key) })),
    () => job.job_id,
  );
  return job;
}

export function workCommands(mirror: Command): void {
  mirror
    .command('sync <name>')
    .description('upload what the mirror has not got')
    .option('--backup-id <id>', 'only this restore point')
    .option('--vm <name>', 'only this machine')
    .option('--missing', 'also what retention removed from the mirror')
    .action(
      async (
        name: string,
        options: { backupId?: string; vm?: string; missing?: boolean },
        command: Command,
      ) => {
        const body = { backup_id: options.backupId, vm_name: options.vm, missing: options.missing };
        const keys = ['added', 'skipped', 'stored_bytes', 'reused_bytes', 'packs', 'requests', 'retries'];
        await work(command, `${path(name)}/sync`, body, keys);
      },
    );
  mirror
    .command('points <name>')
    .description('restore points in a mirror')
    .option('--vm <name>', 'only of this machine')
    .option('--refresh', 'look into the bucket again')
    .action(async (name: string, options: { vm?: string; refresh?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ points: PointView[]; damaged: string[] }>(
        'GET',
        `${path(name)}/points${query({ vm_name: options.vm, refresh: options.refresh })}`,
      );
      const damaged = new Set(answer.damaged);
      print(
        format,
        answer,
        answer.points,
        [
          { title: 'BACKUP', value: (row) => row.backup_id },
          { title: 'MACHINE', value: (row) => row.vm_name },
          { title: 'COMPLETED', value: (row) => time(row.completed_at) },
          { title: 'DISKS', value: (row) => String(row.disks.length) },
          { title: 'SIZE', value: (row) => formatBytes(row.size_bytes) },
          { title: 'STORED', value: (row) => formatBytes(row.stored_bytes) },
          {
            title: 'STATE',
            value: (row) =>
              row.disks.some(({ name }) => damaged.has(name))
                ? 'DAMAGED'
                : row.whole
                  ? 'whole'
                  : 'INCOMPLETE',
          },
          { title: 'LOCKED UNTIL', value: (row) => time(row.locked_until) },
        ],
        (row) => row.backup_id,
      );
      if (answer.damaged.length > 0)
        say(
          `${answer.damaged.length} disks are damaged; upload them again with: sendense-ctl mirror sync ${name}`,
        );
      const [first] = answer.points;
      if (first && format === 'table')
        say(`Mount one with: sendense-ctl backup mount --backup-id ${name}/${first.backup_id}`);
    });
  mirror
    .command('verify <name>')
    .description('look whether everything is there')
    .option('--deep <percent>', 'also read and open so many of the blocks', number, 0)
    .action(async (name: string, options: { deep: number }, command: Command) => {
      const body = { deep_percent: options.deep };
      await work(command, `${path(name)}/verify`, body, [
        'points',
        'objects',
        'blocks',
        'bytes',
        'problem_count',
      ]);
      say(`Everything that the restore points of "${name}" need is there.`);
    });
  withRuleOptions(
    mirror
      .command('prune <name>')
      .description(
        'show what the retention of the mirror deletes, or rules that are named here; does it with --apply PLAN --yes',
      ),
  )
    .option('--apply <plan>', 'carry out the plan that was shown')
    .option('--yes', 'really')
    .option('--force', 'also when no restore point of a machine is left')
    .option('--grace-hours <n>', 'between condemning and deleting; else as the mirror is set', number)
    .action(async (name: string, options: PruneOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const rules = rulesOf(options);
      if (options.apply !== undefined && options.yes) {
        const body = { plan: options.apply, rules, force: options.force, grace_hours: options.graceHours };
        await work(command, `${path(name)}/prune/apply`, body, [...collected]);
        return;
      }
      const plan = await client.call<PlanView>('POST', `${path(name)}/prune/plan`, { rules });
      print(
        format,
        plan,
        plan.points,
        [
          { title: 'BACKUP', value: (row) => row.backup_id },
          { title: 'MACHINE', value: (row) => row.vm_name },
          { title: 'COMPLETED', value: (row) => time(row.completed_at) },
          { title: 'ACTION', value: (row) => row.action },
          { title: 'BECAUSE', value: (row) => row.reason },
        ],
        (row) => row.backup_id,
      );
      if (plan.last_of.length > 0) say(`warning: nothing would be left of ${plan.last_of.join(', ')}.`);
      const doomed = plan.points.filter(({ action }) => action === 'delete').length;
      if (doomed > 0)
        say(`${doomed} would be deleted: sendense-ctl mirror prune ${name} --apply ${plan.plan} --yes`);
    });
  mirror
    .command('gc <name>')
    .description('condemn what no restore point needs, and delete what was condemned before')
    .option('--grace-hours <n>', 'between condemning and deleting; else as the mirror is set', number)
    .action(async (name: string, options: { graceHours?: number }, command: Command) => {
      await work(command, `${path(name)}/gc`, { grace_hours: options.graceHours }, [...collected]);
    });
  mirror
    .command('lock <name>')
    .description('extend the object locks of restore points and of all they stand on')
    .option('--backup-id <id...>', 'only these')
    .option('--days <n>', 'from now', number)
    .option('--legal-hold', 'hold them until it is lifted')
    .option('--no-legal-hold', 'lift it')
    .action(async (name: string, options: LockOptions, command: Command) => {
      const body = { backup_ids: options.backupId, days: options.days, legal_hold: options.legalHold };
      await work(command, `${path(name)}/lock`, body, ['restore_points', 'extended']);
    });
  mirror
    .command('fetch <name>')
    .description('bring a restore point back into a repository, where its chain goes on')
    .requiredOption('--backup-id <id>', 'the restore point')
    .option('--repository <name>', 'where', 'local')
    .action(async (name: string, options: { backupId: string; repository: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const body = { backup_id: options.backupId, repository: options.repository };
      const started = await client.call<JobView>('POST', `${path(name)}/fetch`, body);
      const job = await waitForJob(client, started.job_id);
      const id = job.backup_id ?? '';
      printDone(format, job, id, `${id} is in the repository "${options.repository}" again.`);
    });
}

const collected = ['restore_points', 'condemned', 'deleted', 'freed_bytes'] as const;

interface PruneOptions extends RuleOptions {
  readonly apply?: string;
  readonly yes?: boolean;
  readonly force?: boolean;
  readonly graceHours?: number;
}

interface LockOptions {
  readonly backupId?: readonly string[];
  readonly days?: number;
  readonly legalHold?: boolean;
}
