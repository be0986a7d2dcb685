import { messageOf, SendenseError } from '../../../base/sendense-error.ts';
import type { Job } from '../../../catalog/jobs.ts';
import type { RunTask } from '../../../catalog/policies/policy-runs.ts';
import { type Policy, type PolicyKind, rulesOf } from '../../../policy/definition/policy.ts';
import { needsFull } from '../../../policy/schedules/full-period.ts';
import { startBackup } from '../../backup/start-backup.ts';
import { startBootTest } from '../../boot-tests/start-boot-test.ts';
import { startSync } from '../../mirror/start-sync.ts';
import { startUpkeep } from '../../mirror/upkeep/start-upkeep.ts';
import { makePrunePlan, startPrune } from '../../prune/start-prune.ts';
import { startVerify } from '../../verify/start-verify.ts';
import { UPKEEP } from './plan-tasks.ts';
import type { RunnerDeps } from './runner-deps.ts';

/**
 * Starts the job of one part of a run.
 * @returns null when there is nothing to do
 * @throws what the job's own start throws
 */
export async function startTask(
  deps: RunnerDeps,
  policy: Policy,
  kind: PolicyKind,
  { contextId, target }: RunTask,
  dueMs: number,
): Promise<Job | null> {
  const { catalog, repositories } = deps;
  if (contextId === UPKEEP) return startUpkeep(deps.mirrors, target);
  const vm = catalog.vms.byContext(contextId);
  // it went while it waited; nobody wants it any more
  if (!vm?.registered) return null;
  const repositoryId = repositories.idOf(policy.repository);
  switch (kind) {
    case 'backup': {
      const newestFull = catalog.policyFacts.newestFull(contextId, repositoryId);
      const isFull = needsFull(policy, dueMs, newestFull === null ? null : Date.parse(newestFull));
      const type = isFull ? 'full' : 'incremental';
      return await startBackup(deps.backups, vm.name, type, policy.repository, policy.mib_per_second);
    }
    case 'prune': {
      const rules = rulesOf(policy);
      if (rules === null) return null;
      const request = { vmName: vm.name, repository: policy.repository, rules };
      const { planId, plan } = makePrunePlan(deps.prune, request);
      const isAny = plan.machines.some(({ points }) => points.some(({ action }) => action === 'delete'));
      return isAny ? await startPrune(deps.prune, planId, false) : null;
    }
    case 'verify': {
      // retention may have deleted it since it was chosen
      if (catalog.backups.byId(target) === null) return null;
      const subject = { kind: 'backup', backup: target } as const;
      return await startVerify(deps.verify, { subject, clear: false, mibPerSecond: null });
    }
    case 'mirror':
      // what a verification found damaged is sent again
      if (
        !catalog.policyFacts.isMissingIn(target, contextId) &&
        catalog.mirrorHealth.damaged(target).length === 0
      )
        return null;
      return startSync(deps.mirrors, target, { backup: null, vmName: vm.name });
    case 'boot-test': {
      const backup = catalog.policyFacts.newest(contextId, repositoryId);
      if (backup === null) return null;
      return await startBootTest(deps.bootTests, { backup, ...bootOrder(policy) });
    }
  }
}

function bootOrder({ name, boot_test: test }: Policy) {
  if (test === null)
    throw new SendenseError('POLICY_NOTHING_TO_DO', {
      ...{ policy: name, kind: 'boot-test' },
      detail: 'it has no boot_test',
    });
  return {
    memoryMib: test.memory_mib,
    cpus: test.cpus,
    timeoutMs: test.timeout_s * 1000,
    firmware: test.firmware,
    diskBus: test.disk_bus,
    serial: test.expect_serial,
    agent: test.expect_agent,
    screenStableS: test.expect_screen_stable_s,
  };
}

/** A new restore point goes to each mirror of its policy; one that fails keeps no other from being served. */
export function startMirrors(deps: RunnerDeps, policy: Policy, backupId: string, vmName: string): void {
  for (const mirror of policy.mirrors) {
    const settings = deps.catalog.mirrors.byName(mirror)?.settings;
    const isMeant = settings?.isAutomatic && (settings.vms.length === 0 || settings.vms.includes(vmName));
    // it was told of the backup already, like of any other
    if (isMeant) continue;
    try {
      startSync(deps.mirrors, mirror, { backup: backupId, vmName: null });
    } catch (error) {
      deps.catalog.events.add({
        kind: 'policy.mirror_failed',
        severity: 'error',
        subject: vmName,
        message: `${backupId} was not sent to the mirror ${mirror} of the policy ${policy.name}: ${messageOf(error)}`,
        data: { policy: policy.name, mirror, backup_id: backupId },
      });
    }
  }
}
