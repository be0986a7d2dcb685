import { type Command, InvalidArgumentError } from 'commander';
import { formatBytes, formatDuration } from '../../base/units.ts';
import { contextOf } from '../connection/context.ts';
import { print, say } from '../output.ts';

interface Orphan {
  readonly path: string;
  readonly kind: string;
  readonly bytes: number;
  readonly modified_at: string;
  readonly keep: string | null;
}

interface OrphanList {
  readonly plan: string;
  readonly orphans: readonly Orphan[];
  readonly total_bytes: number;
  readonly busy_machines: readonly string[];
  readonly is_cut: boolean;
}

/** The plan that a list printed. */
function planId(text: string): string {
  if (!/^[0-9a-f]{12}$/.test(text))
    throw new InvalidArgumentError('It must be the plan that the list shows.');
  return text;
}

const age = (orphan: Orphan): string => formatDuration((Date.now() - Date.parse(orphan.modified_at)) / 1000);

export function orphanCommand(repository: Command): void {
  repository
    .command('orphans <name>')
    .description('files that no backup needs; removes only what a list showed')
    .option('--remove <plan>', 'remove what the list of this plan showed', planId)
    .option('--yes', 'really')
    .action(async (name: string, options: { remove?: string; yes?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      const place = `/repositories/${encodeURIComponent(name)}/orphans`;
      if (options.remove !== undefined && options.yes) {
        const done = await client.call<{ removed: string[]; freed_bytes: number }>(
          'POST',
          `${place}/remove`,
          {
            plan: options.remove,
          },
        );
        print(format, done, done.removed, [{ title: 'REMOVED', value: (row) => row }], (row) => row);
        say(`Freed ${formatBytes(done.freed_bytes)}.`);
        return;
      }
      const list = await client.call<OrphanList>('GET', place);
      print(
        format,
        list,
        list.orphans,
        [
          { title: 'PATH', value: (row) => row.path },
          { title: 'KIND', value: (row) => row.kind },
          { title: 'SIZE', value: (row) => formatBytes(row.bytes) },
          { title: 'AGE', value: age },
          { title: 'STAYS', value: (row) => row.keep ?? '' },
        ],
        (row) => row.path,
      );
      for (const machine of list.busy_machines) say(`"${machine}" is in use; nothing of it is listed.`);
      if (list.is_cut) say('There are more; remove these first.');
      const going = list.orphans.filter((row) => row.keep === null).length;
      if (going > 0)
        say(
          `${going} of these may go and would free ${formatBytes(list.total_bytes)}: sendense-ctl repository orphans ${name} --remove ${list.plan} --yes`,
        );
    });
}
