import { type Command, InvalidArgumentError } from 'commander';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { print, printDone } from '../output.ts';

/** `2027-01-31` is the end of that day in UTC; a whole time is taken as it is. */
export function untilTime(text: string): string {
  const whole = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T23:59:59Z` : text;
  const ms = Date.parse(whole);
  // Date rolls 30 February over to March
  const isRolled =
    whole.endsWith('Z') && !Number.isNaN(ms) && !new Date(ms).toISOString().startsWith(text.slice(0, 10));
  if (Number.isNaN(ms) || isRolled)
    throw new InvalidArgumentError(
      'It must be a date as in 2027-01-31, or a time as in 2027-01-31T18:00:00Z.',
    );
  return new Date(ms).toISOString();
}

interface PinView {
  readonly pin_id: string;
  readonly backup_id: string;
  readonly reason: string;
  readonly until: string | null;
}

/** Restore points that stay. */
export function pinCommands(backup: Command): void {
  backup
    .command('pin <id>')
    .description('keep a backup, whatever the retention rules say')
    .requiredOption('--reason <text>', 'why; shown to who wants to delete it')
    .option('--until <date>', 'until when; for ever if not given', untilTime)
    .action(async (id: string, options: { reason: string; until?: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const pin = await client.call<PinView>('POST', `/backup/${encodeURIComponent(id)}/pins`, {
        reason: options.reason,
        until: options.until ?? null,
      });
      const columns = [
        { title: 'PIN', value: (row: PinView) => row.pin_id },
        { title: 'BACKUP', value: (row: PinView) => row.backup_id },
        { title: 'UNTIL', value: (row: PinView) => row.until ?? 'for ever' },
        { title: 'REASON', value: (row: PinView) => row.reason },
      ];
      print(format, pin, [pin], columns, (row) => row.pin_id);
    });
  backup
    .command('unpin <id>')
    .description('take all pins of a backup away, or one')
    .option('--pin <pin>', 'only this one')
    .action(async (id: string, options: { pin?: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const path = `/backup/${encodeURIComponent(id)}/pins${query({ pin_id: options.pin })}`;
      const answer = await client.call<{ removed: number }>('DELETE', path);
      const count = answer.removed === 1 ? 'One pin was' : `${answer.removed} pins were`;
      printDone(format, answer, id, `${count} taken away.`);
    });
}

/** A number as people write it. */
export function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('It must be a whole number above 0.');
  return Number(text);
}
