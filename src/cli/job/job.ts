import { type Command, Option } from 'commander';
import { jobStatuses } from '../choices.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type Format, print } from '../output.ts';
import { type JobView, progressLine, waitForJob } from './wait-for-job.ts';

const show = (format: Format, document: unknown, jobs: readonly JobView[]) =>
  print(
    format,
    document,
    jobs,
    [
      { title: 'JOB', value: (job) => job.job_id },
      { title: 'KIND', value: (job) => job.kind },
      { title: 'STATUS', value: (job) => job.status },
      { title: 'MACHINE', value: (job) => job.vm_name ?? '' },
      {
        title: 'PROGRESS',
        value: (job) => (job.status === 'running' ? progressLine(job) : (job.error?.code ?? '')),
      },
    ],
    (job) => job.job_id,
  );

export function jobCommands(program: Command): void {
  const job = program.command('job').description('running and finished work');
  job
    .command('list')
    .description('jobs, newest first')
    .option('--vm <name>', 'only this machine')
    .addOption(new Option('--status <status>', 'only with this status').choices(jobStatuses))
    .option('--limit <n>', 'how many', '100')
    .action(async (options: { vm?: string; status?: string; limit: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ jobs: JobView[] }>(
        'GET',
        `/jobs${query({ vm_name: options.vm, status: options.status, limit: options.limit })}`,
      );
      show(format, answer, answer.jobs);
    });
  job
    .command('show <id>')
    .description('one job')
    .action(async (id: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<JobView>('GET', `/jobs/${encodeURIComponent(id)}`);
      show(format, answer, [answer]);
    });
  job
    .command('watch <id>')
    .description('follow a job; Ctrl-C cancels it')
    .action(async (id: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const done = await waitForJob(client, id);
      show(format, done, [done]);
    });
  job
    .command('cancel <id>')
    .description('ask a job to stop')
    .action(async (id: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<JobView>('POST', `/jobs/${encodeURIComponent(id)}/cancel`);
      show(format, answer, [answer]);
    });
}
