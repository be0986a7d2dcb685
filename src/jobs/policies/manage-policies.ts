import { SendenseError } from '../../base/sendense-error.ts';
import type { PolicyRun, RunStarter, RunTask } from '../../catalog/policies/policy-runs.ts';
import { type AbsentName, absentNames } from '../../policy/definition/absent-names.ts';
import { diffPolicies, type PolicyChange } from '../../policy/definition/diff-policies.ts';
import { type Policy, type PolicyKind, rulesOf } from '../../policy/definition/policy.ts';
import { knownNames } from './known-names.ts';
import type { KeptPolicy } from './policy-book.ts';
import type { PolicyRunner } from './run/policy-runner.ts';
import type { RunnerDeps } from './run/runner-deps.ts';

export interface PolicyDeps extends RunnerDeps {
  readonly runner: PolicyRunner;
  /** To be told that something about policies changed, so that the scheduler looks at once. */
  readonly policiesChanged: () => void;
}

/** @throws POLICY_EXISTS, POLICY_PLACE_UNKNOWN */
export async function addPolicy(deps: PolicyDeps, policy: Policy): Promise<KeptPolicy> {
  if (deps.book.has(policy.name)) throw new SendenseError('POLICY_EXISTS', { policy: policy.name });
  return await putPolicy(deps, policy);
}

/** Adds it, or takes the place of the one with its name. @throws POLICY_PLACE_UNKNOWN */
export async function putPolicy(deps: PolicyDeps, policy: Policy): Promise<KeptPolicy> {
  confirmPlaces(deps, policy);
  const kept = await deps.book.save(policy);
  deps.policiesChanged();
  return kept;
}

/** What it did stays recorded, and its restore points stay. @throws POLICY_UNKNOWN */
export async function removePolicy(deps: PolicyDeps, name: string): Promise<void> {
  await deps.book.remove(name);
  deps.policiesChanged();
}

/** A name that is misspelt must not be found out at night. */
function confirmPlaces({ catalog }: RunnerDeps, policy: Policy): void {
  const lacking = absentNames(policy, knownNames(catalog)).find(({ what }) => what !== 'machine');
  if (lacking) throw new SendenseError('POLICY_PLACE_UNKNOWN', { policy: policy.name, ...lacking });
}

/** A change of a policy, and which machines it names that nobody has registered. */
export interface AppliedChange extends PolicyChange {
  readonly absent: readonly AbsentName[];
}

/**
 * Brings the policies to what a file says.
 * @param options.prune removes those that the file does not name
 * @returns what was done, or would be
 * @throws POLICY_INVALID for a name that comes twice; POLICY_PLACE_UNKNOWN. Nothing is changed then
 */
export async function applyPolicies(
  deps: PolicyDeps,
  wanted: readonly Policy[],
  options: { readonly prune: boolean; readonly dryRun: boolean },
): Promise<AppliedChange[]> {
  const names = wanted.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined)
    throw new SendenseError('POLICY_INVALID', { detail: `the name "${twice}" comes twice` });
  for (const policy of wanted) confirmPlaces(deps, policy);
  const current = deps.book.all().map(({ policy }) => policy);
  const known = knownNames(deps.catalog);
  const changes = diffPolicies(current, wanted, options.prune).map((change): AppliedChange => {
    const policy = wanted.find(({ name }) => name === change.name);
    return { ...change, absent: policy === undefined ? [] : absentNames(policy, known) };
  });
  if (options.dryRun) return changes;
  for (const { name, change } of changes) {
    const policy = wanted.find((one) => one.name === name);
    if (change === 'remove') await deps.book.remove(name);
    else if (policy !== undefined && change !== 'same') await deps.book.save(policy);
  }
  deps.policiesChanged();
  return changes;
}

/**
 * A run that somebody asks for now.
 * @throws POLICY_UNKNOWN, POLICY_BUSY, POLICY_NOTHING_TO_DO, REPOSITORY_UNKNOWN
 */
export function runPolicyNow(
  deps: PolicyDeps,
  name: string,
  kind: PolicyKind,
  startedBy: RunStarter,
): PolicyRun {
  const { policy } = deps.book.byName(name);
  const going = deps.runner.going(name, kind);
  if (going) throw new SendenseError('POLICY_BUSY', { policy: name, kind, since: going.claimedAt });
  const lacks = whatLacks(policy, kind);
  if (lacks !== null) throw new SendenseError('POLICY_NOTHING_TO_DO', { policy: name, kind, detail: lacks });
  const order = { startedBy, missed: 0 };
  let dueAt = deps.clock.now();
  let run = deps.runner.start(policy, kind, { ...order, dueAt });
  while (run === null) {
    // somebody asked in the same millisecond
    dueAt = new Date(dueAt.getTime() + 1);
    run = deps.runner.start(policy, kind, { ...order, dueAt });
  }
  if (run.outcome === 'skipped')
    throw new SendenseError('POLICY_NOTHING_TO_DO', { policy: name, kind, detail: run.detail });
  return run;
}

function whatLacks(policy: Policy, kind: PolicyKind): string | null {
  if (kind === 'prune' && rulesOf(policy) === null) return 'it has no retention, so everything is kept';
  if (kind === 'mirror' && policy.mirrors.length === 0) return 'it has no mirrors';
  if (kind === 'boot-test' && policy.boot_test === null) return 'it has no boot_test';
  return null;
}

/** @throws POLICY_RUN_UNKNOWN */
export function findRun(
  { catalog }: Pick<RunnerDeps, 'catalog'>,
  id: number,
): { run: PolicyRun; tasks: RunTask[] } {
  const run = catalog.policyRuns.byId(id);
  if (!run) throw new SendenseError('POLICY_RUN_UNKNOWN', { run: id });
  return { run, tasks: catalog.policyRuns.tasks(id) };
}
