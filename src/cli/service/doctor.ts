import type { Command } from 'commander';
import { errorCodes } from '../../base/error-codes.ts';
import { hasCode, messageOf } from '../../base/sendense-error.ts';
import { contextOf } from '../connection/context.ts';
import { print, say } from '../output.ts';

interface FindingView {
  readonly check: string;
  readonly ok: boolean;
  readonly result: 'ok' | 'warn' | 'failed';
  readonly detail: string;
  readonly next: string | null;
}

export function doctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check what backups and restores need')
    .action(async (_options, command: Command) => {
      const { client, format, home } = contextOf(command);
      const answer = await client
        .call<{ checks: FindingView[] }>('GET', '/doctor')
        .catch((error: unknown) => ({ checks: [withoutDaemon(error, home)] }));
      print(
        format,
        answer,
        answer.checks,
        [
          { title: 'CHECK', value: (row) => row.check },
          { title: 'RESULT', value: (row) => (row.result === 'failed' ? 'FAILED' : row.result) },
          { title: 'DETAIL', value: (row) => row.detail },
        ],
        (row) => row.check,
      );
      const troubles = answer.checks.filter((finding) => finding.result !== 'ok');
      for (const { check, next } of troubles) say(`${check}: ${next}`);
      if (answer.checks.some((finding) => finding.result === 'failed'))
        process.exitCode = errorCodes.DAEMON_UNREACHABLE.exit;
      else if (troubles.length === 0) say('All is well.');
    });
}

/** The daemon makes the checks, since it is the one that needs what they look at. */
function withoutDaemon(error: unknown, home: string | null): FindingView {
  if (!hasCode(error, 'DAEMON_UNREACHABLE')) throw error;
  const start = home === null ? 'sendensed' : `sendensed --home ${home}`;
  return {
    check: 'daemon',
    ok: false,
    result: 'failed',
    detail: messageOf(error),
    next: `Start it with \`${start} 2>> sendensed.log &\` and read that log. If it runs with another home, name that with --home DIR.`,
  };
}
