import type { Command } from 'commander';
import { contextOf } from '../connection/context.ts';
import { print, printable, say } from '../output.ts';
import { readPolicyFile } from './policy-file.ts';
import { type AbsentView, sayAbsent } from './say-absent.ts';

interface Change {
  readonly name: string;
  readonly change: 'add' | 'change' | 'remove' | 'same' | 'extra';
  readonly fields: readonly { readonly field: string; readonly from: unknown; readonly to: unknown }[];
  readonly absent: readonly AbsentView[];
}

const signs: Readonly<Record<Change['change'], string>> = {
  add: '+',
  change: '~',
  remove: '-',
  same: '=',
  extra: '?',
};

const words = (value: unknown): string => printable(JSON.stringify(value) ?? 'null');

/** The difference as people read it: a line for each policy, below it its fields. Pure. */
export function diffLines(changes: readonly Change[]): string[] {
  return changes.flatMap(({ name, change, fields }) => {
    const note = change === 'extra' ? ' (not in the file; stays without --prune)' : '';
    const details = change === 'change' ? fields : [];
    return [
      `${signs[change]} ${name}${note}`,
      ...details.map(({ field, from, to }) => `    ${field}: ${words(from)} -> ${words(to)}`),
    ];
  });
}

export function applyCommand(policy: Command): void {
  policy
    .command('apply')
    .description('bring the policies to what a file says; shows the difference first')
    .requiredOption('-f, --file <file>', 'YAML or JSON with a list `policies:`; - reads stdin')
    .option('--dry-run', 'only show the difference')
    .option('--prune', 'also remove policies that are not in the file; needs --yes')
    .option('--yes', 'yes, remove them')
    .action(
      async (
        options: { file: string; dryRun?: boolean; prune?: boolean; yes?: boolean },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const file = await readPolicyFile(options.file);
        const order = { policies: file.policies, prune: options.prune ?? false };
        const planned = await client
          .call<{ changes: Change[] }>('POST', '/policies/apply', { ...order, dry_run: true })
          .catch((error: unknown) => {
            throw file.withLine(error);
          });
        const { changes } = planned;
        for (const line of diffLines(changes)) say(line);
        for (const { name, absent } of changes) sayAbsent(name, absent);
        const removed = changes.filter(({ change }) => change === 'remove');
        if (removed.length > 0 && !options.dryRun && !options.yes)
          command.error(
            `error: ${removed.map(({ name }) => name).join(', ')} would be removed; nothing was changed. Say so with --yes`,
          );
        const answer = options.dryRun
          ? planned
          : await client.call<{ changes: Change[] }>('POST', '/policies/apply', order);
        const done = answer.changes.filter(({ change }) => change !== 'same' && change !== 'extra');
        if (format !== 'table') print(format, answer, done, [], ({ name }) => name);
        if (done.length === 0) say('Nothing differs.');
        else if (options.dryRun) say('Nothing was changed: this was a dry run.');
        else say(`${done.length} ${done.length === 1 ? 'policy is' : 'policies are'} now as the file says.`);
      },
    );
}
