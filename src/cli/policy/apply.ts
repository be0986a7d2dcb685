import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import type { Command } from 'commander';
import { parse } from 'yaml';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { contextOf } from '../context.ts';
import { print, printable, say } from '../output.ts';

interface Change {
  readonly name: string;
  readonly change: 'add' | 'change' | 'remove' | 'same' | 'extra';
  readonly fields: readonly { readonly field: string; readonly from: unknown; readonly to: unknown }[];
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

/** YAML is a superset of JSON: both are read alike. */
async function policiesIn(file: string): Promise<unknown> {
  const invalid = (detail: string) => new SendenseError('POLICY_INVALID', { detail: `${file}: ${detail}` });
  let document: unknown;
  try {
    const text = file === '-' ? (await buffer(process.stdin)).toString('utf8') : await readFile(file, 'utf8');
    document = parse(text);
  } catch (error) {
    throw invalid(messageOf(error));
  }
  const isMap = document !== null && typeof document === 'object' && 'policies' in document;
  if (!isMap) throw invalid('it must have a list "policies:"');
  const others = Object.keys(document as object).filter((key) => key !== 'policies');
  if (others.length > 0) throw invalid(`it has "${others[0]}"; only "policies:" is known`);
  return (document as { policies: unknown }).policies;
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
        const order = { policies: await policiesIn(options.file), prune: options.prune ?? false };
        const planned = await client.call<{ changes: Change[] }>('POST', '/policies/apply', {
          ...order,
          dry_run: true,
        });
        const { changes } = planned;
        for (const line of diffLines(changes)) say(line);
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
