import { type Command, InvalidArgumentError } from 'commander';
import { errorCodes } from '../../base/error-codes.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { print, say } from '../output.ts';

interface Report {
  readonly ok: boolean;
  readonly rows: number;
  readonly head: { readonly id: number; readonly hash: string };
  readonly problems: readonly { readonly id: number; readonly problem: string; readonly detail: string }[];
}

function anchor(text: string): string {
  if (!/^\d{1,15}:[0-9a-f]{64}$/.test(text))
    throw new InvalidArgumentError('Write it as ID:HASH, as this command printed it earlier.');
  return text;
}

/** @param events the command whose verb this is */
export function eventsVerifyCommand(events: Command): void {
  events
    .command('verify')
    .description('whether the log of events is as it was written; exit code 20 when not')
    .option('--anchor <id:hash>', 'what this command printed at an earlier time', anchor)
    .action(async (options: { anchor?: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const report = await client.call<Report>('GET', `/events/verify${query({ anchor: options.anchor })}`);
      print(
        format,
        report,
        report.problems,
        [
          { title: 'EVENT', value: (row) => String(row.id) },
          { title: 'PROBLEM', value: (row) => row.problem },
          { title: 'DETAIL', value: (row) => row.detail },
        ],
        (row) => String(row.id),
      );
      const end = `${report.head.id}:${report.head.hash}`;
      say(
        report.ok
          ? `All ${report.rows} events are as they were written. Keep this elsewhere to compare with: ${end}`
          : `The log of events was tampered with or damaged. It ends with ${end}`,
      );
      if (!report.ok) process.exitCode = errorCodes.LAYER_CORRUPT.exit;
    });
}
