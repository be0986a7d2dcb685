import { createHash } from 'node:crypto';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { PlannedBackup } from '../../catalog/points/planned-backups.ts';
import { chainMembers } from '../../catalog/points/record-backup.ts';
import type { Vm } from '../../catalog/vms.ts';
import type { RetentionDecision } from '../../policy/retention/decide.ts';
import { planRetention } from '../../policy/retention/plan-retention.ts';
import type { RetentionRules } from '../../policy/retention/retention-rules.ts';
import type { Repository } from '../../repository/open-repository.ts';
import { findVm } from '../find-backup.ts';
import type { Repositories } from '../repository/repositories.ts';
import { type ChainEffect, chainEffects } from './chain-effects.ts';

/** Whose restore points, by which rules. Plain JSON: it is stored with the plan. */
export interface PruneRequest {
  /** Null: every machine. */
  readonly vmName: string | null;
  /** Null: every repository. */
  readonly repository: string | null;
  readonly rules: RetentionRules;
}

export interface PrunePoint extends Omit<RetentionDecision, 'id'>, ChainEffect {
  readonly backupId: string;
  readonly completedAt: string;
  /** Length of its own layers. */
  readonly bytes: number;
}

export interface MachinePlan {
  readonly vm: Vm;
  readonly repository: Repository;
  /** Newest first. */
  readonly points: readonly PrunePoint[];
  readonly deletesLastGood: boolean;
}

export interface PrunePlan {
  readonly machines: readonly MachinePlan[];
  /** Of everything that the decisions were made from; another digest is another world. */
  readonly digest: string;
}

interface PlanDeps {
  readonly catalog: Catalog;
  readonly repositories: Repositories;
}

/**
 * Decides for every restore point that the request is about. Reads the catalogue only; changes nothing.
 * @throws VM_UNKNOWN, REPOSITORY_UNKNOWN
 */
export function planPrune(deps: PlanDeps, request: PruneRequest, now: Date): PrunePlan {
  const { catalog, repositories } = deps;
  const vms = request.vmName === null ? catalog.vms.all() : [findVm(catalog, request.vmName)];
  const places = request.repository === null ? repositories.all() : [repositories.byName(request.repository)];
  const machines: MachinePlan[] = [];
  const world = createHash('sha256').update(JSON.stringify(request.rules));
  // of thousands of machines perhaps few are there
  const inPlace =
    vms.length === 1 ? null : new Map(places.map(({ id }) => [id, catalog.chains.machinesIn(id)]));
  for (const vm of vms) {
    for (const repository of places) {
      if (inPlace?.get(repository.id)?.has(vm.contextId) === false) continue;
      const backups = catalog.backups.planned(vm.contextId, repository.id);
      if (backups.length === 0) continue;
      machines.push(planMachine(catalog, { vm, repository }, backups, request.rules, now, world));
    }
  }
  return { machines, digest: world.digest('hex') };
}

function planMachine(
  catalog: Catalog,
  { vm, repository }: { vm: Vm; repository: Repository },
  backups: readonly PlannedBackup[],
  rules: RetentionRules,
  now: Date,
  world: { update(text: string): unknown },
): MachinePlan {
  const pins = Map.groupBy(catalog.pins.ofVm(vm.contextId, repository.id), ({ backupId }) => backupId);
  const members = chainMembers(catalog, vm.contextId, repository.id, backups);
  const isGood = (backup: PlannedBackup) => backup.disks.every(({ damage }) => damage === null);
  const known = backups.map((backup) => ({
    id: backup.id,
    completedAtMs: Date.parse(backup.completedAt ?? backup.createdAt),
    isGood: isGood(backup),
    pins: (pins.get(backup.id) ?? []).map(({ reason, until }) => ({
      reason,
      untilMs: until === null ? null : Date.parse(until),
    })),
  }));
  // where layers lie may change meanwhile; which points there are, and whether they are good, may not
  world.update(JSON.stringify([vm.contextId, repository.id, known]));
  const plan = planRetention(known, rules, now.getTime());
  const deleted = new Set(plan.decisions.filter(({ action }) => action === 'delete').map(({ id }) => id));
  const effects = chainEffects(members, deleted);
  const byId = new Map(backups.map((backup) => [backup.id, backup]));
  const points = plan.decisions.map(({ id, ...decision }): PrunePoint => {
    const backup = byId.get(id);
    if (!backup) throw new SendenseError('INTERNAL', { detail: `a decision about the unknown backup ${id}` });
    return {
      ...decision,
      ...(effects.get(id) ?? { freedBytes: 0, mergedBytes: 0, texts: [] }),
      backupId: id,
      completedAt: backup.completedAt ?? backup.createdAt,
      bytes: backup.disks.reduce((sum, disk) => sum + disk.fileBytes, 0),
    };
  });
  return { vm, repository, points, deletesLastGood: plan.deletesLastGood };
}
