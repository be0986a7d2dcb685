import { type Command, InvalidArgumentError, Option } from 'commander';
import { hasCode } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import type { Client } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type JobView, waitForJob } from '../job/wait-for-job.ts';
import { print, printable, printDone, say } from '../output.ts';

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

/** As in `20s`, `10m`, `1h`. */
function seconds(text: string): number {
  const match = /^(\d{1,5})([smh])$/.exec(text);
  const value = Number(match?.[1]) * (UNIT_SECONDS[match?.[2] ?? ''] ?? Number.NaN);
  if (!(value >= 1 && value <= 86_400))
    throw new InvalidArgumentError('It must be a time as in 20s, 10m or 1h, at most 24h.');
  return value;
}

/** As in `512M` or `4G`. @returns MiB */
export function mebibytes(text: string): number {
  const match = /^(\d{1,6})([MG])i?B?$/i.exec(text);
  const value = Number(match?.[1]) * (match?.[2]?.toUpperCase() === 'G' ? 1024 : 1);
  if (!(value >= 64 && value <= 1_048_576))
    throw new InvalidArgumentError('It must be an amount of memory as in 512M or 4G, at least 64M.');
  return value;
}

function cpuCount(text: string): number {
  const count = Number(text);
  if (!/^\d{1,2}$/.test(text) || count < 1 || count > 64)
    throw new InvalidArgumentError('It must be a number from 1 to 64.');
  return count;
}

interface TestOptions {
  readonly backupId?: string;
  readonly vm?: string;
  readonly latest?: boolean;
  readonly wait?: boolean;
  readonly memory: number;
  readonly cpus: number;
  readonly timeout: number;
  readonly firmware: string;
  readonly diskBus: string;
  readonly expectSerial?: string;
  readonly expectAgent?: boolean;
  readonly expectScreenStable?: number;
}

interface TestView {
  readonly time: string;
  readonly folder: string;
  readonly tested_at: string;
  readonly outcome: string;
  readonly reason: string;
  readonly took_ms: number;
  readonly met: readonly { readonly condition: string; readonly after_ms: number }[];
  readonly machine: { readonly accelerator: string };
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
}

const secondsOf = (ms: unknown) => `${(Number(ms) / 1000).toFixed(1)} s`;

export function bootTestCommands(restore: Command): void {
  restore
    .command('test')
    .description('boot a restore point without a network, and see whether it comes up')
    .option('--backup-id <id>', 'the restore point')
    .option('--vm <name>', 'with --latest: the newest restore point of this machine')
    .option('--latest', 'with --vm')
    .option('--wait', 'follow it to its end; the exit code is 20 if the machine does not come up')
    .option('--memory <size>', 'of the machine', mebibytes, 1024)
    .option('--cpus <n>', 'of the machine', cpuCount, 1)
    .option('--timeout <time>', 'how long it may take', seconds, 600)
    .addOption(new Option('--firmware <kind>', 'what starts it').choices(['bios', 'uefi']).default('bios'))
    .addOption(
      new Option('--disk-bus <bus>', 'how its disks are attached')
        .choices(['virtio', 'sata', 'ide'])
        .default('virtio'),
    )
    .option('--expect-serial <regex>', 'a line of the serial console must match')
    .option('--expect-agent', 'the QEMU guest agent must answer')
    .option('--expect-screen-stable <time>', 'the picture must stay the same for this time', seconds)
    .action(async (options: TestOptions, command: Command) => {
      const isLatest = options.vm !== undefined && options.latest === true;
      if (isLatest === (options.backupId !== undefined))
        command.error('error: give either --backup-id ID or --vm NAME --latest');
      const { client, format } = contextOf(command);
      const job = await client.call<JobView>('POST', '/restore/test', {
        backup_id: isLatest ? `latest:${options.vm}` : options.backupId,
        memory_mib: options.memory,
        cpus: options.cpus,
        timeout_s: options.timeout,
        firmware: options.firmware,
        disk_bus: options.diskBus,
        expect_serial: options.expectSerial,
        expect_agent: options.expectAgent ?? false,
        expect_screen_stable_s: options.expectScreenStable,
      });
      if (!options.wait) {
        say(`Watch it with: sendense-ctl job watch ${job.job_id}`);
        print(format, job, [job], [{ title: 'JOB', value: (row) => row.job_id }], (row) => row.job_id);
        return;
      }
      try {
        await waitForJob(client, job.job_id);
      } catch (error) {
        if (hasCode(error, 'BOOT_TEST_FAILED')) await tellFailure(client, job);
        throw error;
      }
      const done = await client.call<JobView>('GET', `/jobs/${job.job_id}`);
      printDone(format, done, done.job_id, `${done.backup_id} came up: ${sentenceOf(done)}.`);
    });
  restore
    .command('tests')
    .description('boot tests of a restore point, newest first')
    .requiredOption('--backup-id <id>', 'the restore point')
    .action(async (options: { backupId: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ tests: TestView[] }>(
        'GET',
        `/backup/${encodeURIComponent(options.backupId)}/boot-tests`,
      );
      print(
        format,
        answer,
        answer.tests,
        [
          { title: 'TIME', value: (test) => test.time },
          { title: 'OUTCOME', value: (test) => test.outcome },
          { title: 'TOOK', value: (test) => secondsOf(test.took_ms) },
          { title: 'BY', value: (test) => test.machine.accelerator },
          { title: 'WHY', value: (test) => test.reason },
        ],
        (test) => test.time,
      );
      const [newest] = answer.tests;
      if (!newest) return;
      say(`Files of the newest, in ${newest.folder}:`);
      for (const { name, bytes } of newest.files) say(`  ${name}  ${formatBytes(bytes)}`);
    });
}

function sentenceOf({ result }: JobView): string {
  const how = `${printable(String(result?.['reason']))} after ${secondsOf(result?.['took_ms'])}`;
  return `${how} (${String(result?.['accelerator'])}), see ${String(result?.['folder'])}`;
}

async function tellFailure(client: Client, { job_id }: JobView): Promise<void> {
  const { result } = await client.call<JobView>('GET', `/jobs/${job_id}`);
  if (result?.['folder'] !== undefined) say(`What was seen is in ${String(result['folder'])}`);
}
