import type { Command } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { print, say } from '../output.ts';

interface DeleteOptions {
  readonly cascade?: boolean;
  readonly merge?: boolean;
  readonly force?: boolean;
  readonly dryRun?: boolean;
}

export function deleteCommand(backup: Command): void {
  backup
    .command('delete <id>')
    .description('delete a backup')
    .option('--merge', 'only this one; what newer backups need of it is kept and merged into them')
    .option('--cascade', 'also the backups that need it')
    .option('--force', 'also when it is pinned')
    .option('--dry-run', 'only say what would go')
    .action(async (id: string, options: DeleteOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const { cascade, merge, force, dryRun } = options;
      const answer = await client.call<{
        backup_ids: string[];
        kept_dependants: string[];
        freed_bytes: number;
      }>('DELETE', `/backup/${encodeURIComponent(id)}${query({ cascade, merge, force, dry_run: dryRun })}`);
      const rows = answer.backup_ids;
      print(
        format,
        answer,
        rows,
        [{ title: dryRun ? 'WOULD DELETE' : 'DELETED', value: (row) => row }],
        (row) => row,
      );
      const kept = answer.kept_dependants.length;
      if (kept > 0)
        say(
          `${dryRun ? 'It would free at most' : 'Frees at most'} ${formatBytes(answer.freed_bytes)}: ${kept} newer ${kept === 1 ? 'backup needs' : 'backups need'} layers of it, which are merged in the background.`,
        );
      else say(`${dryRun ? 'It would free' : 'Freed'} ${formatBytes(answer.freed_bytes)}.`);
    });
}
