import type { RunTask } from '../../../catalog/policies/policy-runs.ts';
import type { Vm } from '../../../catalog/vms.ts';
import type { Policy, PolicyKind } from '../../../policy/definition/policy.ts';
import { selects } from '../../../policy/definition/select-machines.ts';
import { pickForVerify } from '../../../policy/schedules/pick-verify.ts';
import type { RunLimits, RunnerDeps } from './runner-deps.ts';
import type { QueuedTask } from './task-queue.ts';

type PlanDeps = Pick<RunnerDeps, 'catalog' | 'repositories'>;
type PlannedTask = Pick<RunTask, 'contextId' | 'vmName' | 'target'>;

/**
 * Registered machines that the policy means, by name.
 * @param all every machine, when the caller has them already
 */
export function machinesOf(
  { catalog }: Pick<RunnerDeps, 'catalog'>,
  policy: Policy,
  all: readonly Vm[] = catalog.vms.all(),
): Vm[] {
  const isMeant = selects(policy.machines);
  return all.filter((vm) => vm.registered && vm.unprotected === null && isMeant(vm));
}

/**
 * The parts of a run: mostly one for each machine, for mirrors one for each of them and one for the mirror itself, for verification one for each
 * restore point that is looked at this time.
 * @throws REPOSITORY_UNKNOWN
 */
export function planTasks(deps: PlanDeps, policy: Policy, kind: PolicyKind): PlannedTask[] {
  const { catalog, repositories } = deps;
  const tasks: PlannedTask[] = [];
  const repositoryId = repositories.idOf(policy.repository);
  for (const { contextId, name: vmName } of machinesOf(deps, policy)) {
    const add = (targets: readonly string[]) => {
      for (const target of targets) tasks.push({ contextId, vmName, target });
    };
    if (kind === 'mirror') add(policy.mirrors);
    else if (kind === 'verify') {
      const points = catalog.policyFacts.verifiable(contextId, repositoryId);
      add(pickForVerify(points, policy.verify?.percent ?? 100).map(({ id }) => id));
    } else add(['']);
  }
  return kind === 'mirror' ? [...tasks, ...upkeepTasks(deps, policy)] : tasks;
}

/** Of the mirror itself, whatever machines it has: it is nobody's part. */
const upkeepTasks = ({ catalog }: PlanDeps, { mirrors }: Policy): PlannedTask[] =>
  mirrors
    .filter((mirror) => catalog.mirrors.byName(mirror)?.settings.hasUpkeep)
    .map((target) => ({ contextId: UPKEEP, vmName: '(upkeep)', target }));

/** In the place of a machine: of the part of a mirror run that looks after the mirror. */
export const UPKEEP = '';

/** Uploads go first: what they need must not look unneeded, and a new restore point may end the need of an old one. */
export const uploadsFirst = (tasks: readonly RunTask[]): RunTask[] =>
  tasks.toSorted((a, b) => Number(a.contextId === UPKEEP) - Number(b.contextId === UPKEEP));

/** What the machine's jobs of this kind have to share with others. Of one machine there is never a second of a kind. */
export function limitsOf(
  limits: RunLimits,
  policy: Policy,
  kind: PolicyKind,
  { contextId, target }: PlannedTask,
  vm: Vm | null,
): QueuedTask['limits'] {
  const alone = { key: `${kind} of ${contextId}`, max: 1 };
  switch (kind) {
    case 'backup':
      return [
        alone,
        { key: 'backups', max: limits.backups },
        { key: `repository ${policy.repository}`, max: limits.perRepository },
        { key: `source ${sourceOf(vm)}`, max: limits.perSource },
      ];
    case 'mirror':
      if (contextId === UPKEEP) return [{ key: `mirror ${target}`, max: 1 }];
      return [alone, { key: `mirror ${target}`, max: 1 }];
    case 'boot-test':
      return [alone, { key: kind, max: limits.bootTests }];
    default:
      return [alone, { key: kind, max: 1 }];
  }
}

/** Machines with the same source read from the same disks and through the same line. */
function sourceOf(vm: Vm | null): string {
  if (vm === null) return 'unknown';
  if (vm.agentId !== null) return `agent ${vm.agentId}`;
  return vm.source.kind === 'libvirt' ? `libvirt ${vm.source.uri}` : 'this host';
}
