import type { Command } from 'commander';
import { contextOf } from '../connection/context.ts';
import { type Format, print, printDone, say } from '../output.ts';
import { applyCommand } from './apply.ts';
import { fieldsOf, type PolicyOptions, withPolicyOptions } from './policy-options.ts';
import { previewCommand } from './preview.ts';
import { runCommands } from './run.ts';
import { type AbsentView, sayAbsent } from './say-absent.ts';

export interface PolicyView {
  readonly name: string;
  readonly description: string;
  readonly machines: Record<string, unknown>;
  readonly machine_count: number;
  readonly runner: string;
  readonly schedule: string | null;
  readonly time_zone: string;
  readonly repository: string;
  readonly mirrors: readonly string[];
  readonly retention: Readonly<Record<string, unknown>> | null;
  readonly verify: Record<string, unknown> | null;
  readonly boot_test: Record<string, unknown> | null;
  readonly hooks: Record<string, unknown>;
  readonly absent: readonly AbsentView[];
}

const rulesText = (rules: PolicyView['retention']): string =>
  rules === null
    ? 'keeps all'
    : Object.entries(rules)
        .filter(([rule]) => rule !== 'time_zone')
        .map(([rule, value]) => `${rule}=${value}`)
        .join(' ');

const show = (format: Format, document: unknown, policies: readonly PolicyView[]) =>
  print(
    format,
    document,
    policies,
    [
      { title: 'POLICY', value: (row) => row.name },
      { title: 'MACHINES', value: (row) => String(row.machine_count) },
      { title: 'SCHEDULE', value: (row) => row.schedule ?? '(none)' },
      { title: 'ZONE', value: (row) => row.time_zone },
      { title: 'RUNNER', value: (row) => row.runner },
      { title: 'REPOSITORY', value: (row) => row.repository },
      { title: 'MIRRORS', value: (row) => row.mirrors.join(' ') },
      { title: 'RETENTION', value: (row) => rulesText(row.retention) },
    ],
    (row) => row.name,
  );

const pathOf = (name: string) => `/policies/${encodeURIComponent(name)}`;

export function policyCommands(program: Command): void {
  const policy = program.command('policy').description('what is backed up, when, and how long it is kept');
  withPolicyOptions(policy.command('add <name>'))
    .description('add a policy for machines chosen by name, pattern or label')
    .action(async (name: string, options: PolicyOptions, command: Command) => {
      if (!options.vm && !options.pattern && !options.label)
        command.error(
          `error: a policy needs machines, as in: sendense-ctl policy add ${name} --label tier=gold, or --pattern "*"`,
        );
      const { client, format } = contextOf(command);
      const added = await client.call<PolicyView>('POST', '/policies', { name, ...fieldsOf(options) });
      show(format, added, [added]);
      sayAbsent(name, added.absent);
      say(`See what it means with: sendense-ctl policy preview ${name}`);
    });
  policy
    .command('list')
    .description('all policies')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ policies: PolicyView[] }>('GET', '/policies');
      show(format, answer, answer.policies);
    });
  policy
    .command('show <name>')
    .description('one policy; with -o yaml as `policy apply` reads it')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<PolicyView>('GET', pathOf(name));
      // what is derived stays out of what can be applied again
      const shown = answer as PolicyView & { since: unknown };
      const { machine_count: _count, since: _since, absent, ...document } = shown;
      show(format, format === 'yaml' ? { policies: [document] } : answer, [answer]);
      sayAbsent(name, absent);
    });
  withPolicyOptions(policy.command('set <name>'))
    .description('change a policy; what is not named stays')
    .action(async (name: string, options: PolicyOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const before = await client.call<PolicyView>('GET', pathOf(name));
      const changed = await client.call<PolicyView>('PATCH', pathOf(name), fieldsOf(options, before));
      show(format, changed, [changed]);
      sayAbsent(name, changed.absent);
    });
  policy
    .command('remove <name>')
    .description('remove a policy; its restore points stay')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      await client.call('DELETE', pathOf(name));
      printDone(
        format,
        { name, removed: true },
        name,
        `The policy "${name}" is removed; its restore points stay.`,
      );
    });
  applyCommand(policy);
  previewCommand(policy);
  runCommands(policy);
}
