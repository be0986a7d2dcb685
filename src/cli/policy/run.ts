import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { SendenseError } from '../../base/sendense-error.ts';
import { wholeNumber } from '../backup/pin.ts';
import { type Client, query } from '../connection/client.ts';
import { type CliContext, contextOf } from '../connection/context.ts';
import { print, say } from '../output.ts';

interface TaskView {
  readonly vm_name: string;
  readonly target: string;
  readonly status: string;
  readonly attempts: number;
  readonly job_id: string | null;
  readonly detail: string;
}

export interface RunView {
  readonly run_id: number;
  readonly policy: string;
  readonly kind: string;
  readonly due_at: string;
  readonly started_by: string;
  readonly missed: number;
  readonly finished_at: string | null;
  readonly outcome: string | null;
  readonly detail: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly tasks?: readonly TaskView[];
}

const kinds = ['backup', 'prune', 'verify', 'mirror', 'boot-test'];
/** Often enough to be felt as at once, seldom enough for a run of hours. */
const ASK_EVERY_MS = 500;

const time = (text: string | null): string => (text ?? '').slice(0, 19).replace('T', ' ');

function showRuns(format: CliContext['format'], document: unknown, runs: readonly RunView[]): void {
  print(
    format,
    document,
    runs,
    [
      { title: 'RUN', value: (row) => String(row.run_id) },
      { title: 'POLICY', value: (row) => row.policy },
      { title: 'KIND', value: (row) => row.kind },
      { title: 'DUE', value: (row) => time(row.due_at) },
      { title: 'BY', value: (row) => row.started_by },
      { title: 'OUTCOME', value: (row) => row.outcome ?? 'running' },
      { title: 'DONE', value: ({ counts }) => `${counts['completed'] ?? 0}/${totalOf(counts)}` },
      { title: 'DETAIL', value: (row) => row.detail },
    ],
    (row) => String(row.run_id),
  );
}

const totalOf = (counts: RunView['counts']): number =>
  Object.values(counts).reduce((sum, count) => sum + count, 0);

function showTasks(format: CliContext['format'], run: RunView): void {
  print(
    format,
    run,
    run.tasks ?? [],
    [
      { title: 'MACHINE', value: (row) => row.vm_name },
      { title: 'TARGET', value: (row) => row.target },
      { title: 'STATUS', value: (row) => row.status },
      { title: 'JOB', value: (row) => row.job_id ?? '' },
      { title: 'DETAIL', value: (row) => row.detail },
    ],
    (row) => row.vm_name,
  );
}

/** Waits for the end of a run. @throws POLICY_RUN_PARTLY, POLICY_RUN_FAILED */
async function follow(client: Client, runId: number): Promise<RunView> {
  let told = '';
  for (;;) {
    const run = await client.call<RunView>('GET', `/policy-runs/${runId}`);
    const line = `${run.counts['completed'] ?? 0} of ${totalOf(run.counts)} done, ${run.counts['failed'] ?? 0} failed`;
    if (line !== told) say(line);
    told = line;
    if (run.outcome === 'completed') return run;
    const facts = { run: runId, policy: run.policy, detail: run.detail };
    if (run.outcome === 'partly')
      throw new SendenseError('POLICY_RUN_PARTLY', {
        ...{ ...facts, total: totalOf(run.counts) },
        failed: totalOf(run.counts) - (run.counts['completed'] ?? 0),
      });
    if (run.outcome !== null) throw new SendenseError('POLICY_RUN_FAILED', facts);
    await sleep(ASK_EVERY_MS);
  }
}

interface RunOptions {
  readonly kind?: string;
  readonly wait?: boolean;
  readonly startedBy?: string;
}

/** Starts a run and follows it when that was asked for. */
export async function runPolicy(context: CliContext, name: string, options: RunOptions): Promise<void> {
  const { client, format } = context;
  const started = await client.call<RunView>('POST', `/policies/${encodeURIComponent(name)}/run`, {
    kind: options.kind ?? 'backup',
    started_by: options.startedBy ?? 'operator',
  });
  if (options.wait) {
    const run = await follow(client, started.run_id);
    if (format === 'table') showTasks(format, run);
    else showRuns(format, run, [run]);
    return;
  }
  showRuns(format, started, [started]);
  say(`See how far it is with: sendense-ctl policy runs --run ${started.run_id}`);
}

export function runCommands(policy: Command): void {
  policy
    .command('run <name>')
    .description('run a policy now for all of its machines; exit code 3 with --wait when it is done in part')
    .addOption(new Option('--kind <kind>', 'what of it').choices(kinds).default('backup'))
    .addOption(new Option('--started-by <who>').choices(['operator', 'systemd']).hideHelp())
    .option('--wait', 'wait for its end')
    .action(async (name: string, options: RunOptions, command: Command) => {
      await runPolicy(contextOf(command), name, options);
    });
  policy
    .command('runs [name]')
    .description('what was run, newest first')
    .option('--limit <n>', 'how many', '20')
    .option('--run <n>', 'each machine of this run', wholeNumber)
    .action(async (name: string | undefined, options: { limit: string; run?: number }, command: Command) => {
      const { client, format } = contextOf(command);
      if (options.run !== undefined) {
        showTasks(format, await client.call<RunView>('GET', `/policy-runs/${options.run}`));
        return;
      }
      const path = `/policy-runs${query({ policy: name, limit: options.limit })}`;
      const answer = await client.call<{ runs: RunView[] }>('GET', path);
      showRuns(format, answer, answer.runs);
    });
}
