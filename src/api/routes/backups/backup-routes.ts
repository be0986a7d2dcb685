import { z } from 'zod';
import { SendenseError } from '../../../base/sendense-error.ts';
import { chainMembers } from '../../../catalog/points/record-backup.ts';
import { type StartBackupDeps, startBackup } from '../../../jobs/backup/start-backup.ts';
import { type DeleteDeps, deleteBackup, planDelete } from '../../../jobs/chains/delete-backup.ts';
import { findBackup, findVm } from '../../../jobs/find-backup.ts';
import { failureOf } from '../../../jobs/job-engine.ts';
import { chainsOf } from '../../../repository/layers/chains.ts';
import { defineRoute, type Route } from '../../route.ts';
import {
  backupAnswer,
  backupRef,
  backupType,
  diskIndex,
  flag,
  jobStatus,
  limit,
  repositoryName,
  vmName,
} from '../../schemas.ts';
import { backupView } from '../../views.ts';

const tag = 'backup';
const backupParams = z.object({ backup_id: backupRef });

export function backupRoutes(deps: StartBackupDeps & DeleteDeps): Route[] {
  const { catalog, repositories, engine } = deps;
  return [
    defineRoute({
      method: 'post',
      path: '/backup/start',
      tag,
      status: 202,
      summary: 'Start a backup of a machine',
      access: { role: 'operator', about: ['vm_name'] },
      body: z.strictObject({
        vm_name: vmName,
        backup_type: backupType.default('incremental'),
        repository: repositoryName.default('local'),
        rate_mib_per_s: z.number().min(1).max(65_536).optional(),
        wait: z.boolean().default(false),
      }),
      answer: z.object({
        job_id: z.string(),
        backup_id: z.string(),
        status: jobStatus,
        warnings: z.array(z.string()),
      }),
      handle: async ({ body }) => {
        const rate = body.rate_mib_per_s ?? null;
        const agentId = catalog.vms.byName(body.vm_name)?.agentId ?? null;
        if (rate !== null && agentId !== null)
          throw new SendenseError('REQUEST_INVALID', {
            detail: 'machines at an agent have the limit of their agent: sendense-ctl agent set AGENT --rate',
          });
        let job = await startBackup(deps, body.vm_name, body.backup_type, body.repository, rate);
        if (body.wait) {
          job = await engine.wait(job.id);
          if (job.status !== 'completed') throw failureOf(job.error);
        }
        return { jobId: job.id, backupId: job.backupId, status: job.status, warnings: job.warnings };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/backup/list',
      tag,
      summary: 'Backups, newest first',
      access: { role: 'viewer', about: 'listed' },
      query: z.strictObject({
        vm_name: vmName.optional(),
        status: jobStatus.optional(),
        repository: repositoryName.optional(),
        cursor: backupRef.optional(),
        limit,
      }),
      answer: z.object({ backups: z.array(backupAnswer), next_cursor: z.string().nullable() }),
      handle: async ({ query, caller }) => {
        if (query.vm_name !== undefined && !caller.sees(query.vm_name))
          throw new SendenseError('VM_UNKNOWN', { vm: query.vm_name });
        const after = query.cursor === undefined ? null : catalog.backups.byId(query.cursor);
        if (query.cursor !== undefined && !(after && caller.sees(after.vmName)))
          throw new SendenseError('REQUEST_INVALID', {
            detail: `cursor is "${query.cursor}"; it is not known any more`,
          });
        const backups = catalog.backups.list({
          limit: query.limit + 1,
          ...(query.vm_name === undefined ? {} : { contextId: findVm(catalog, query.vm_name).contextId }),
          ...(caller.isScoped
            ? {
                contextIds: catalog.vms
                  .all()
                  .filter(({ name }) => caller.sees(name))
                  .map(({ contextId }) => contextId),
              }
            : {}),
          ...(query.status === undefined ? {} : { status: query.status }),
          ...(query.repository === undefined ? {} : { repositoryId: repositories.idOf(query.repository) }),
          ...(after ? { after } : {}),
        });
        const page = backups.slice(0, query.limit);
        return {
          backups: page.map((backup) => backupView(backup, deps)),
          nextCursor: backups.length > page.length ? (page.at(-1)?.id ?? null) : null,
        };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/backup/chain',
      tag,
      summary: 'The chains of a machine',
      access: { role: 'viewer', about: ['vm_name'] },
      query: z.strictObject({ vm_name: vmName, disk: diskIndex.optional() }),
      answer: z.object({
        chains: z.array(
          z.object({
            disk_id: z.number(),
            repository: z.string(),
            full_backup_id: z.string(),
            latest_backup_id: z.string(),
            total_backups: z.number(),
            total_layers: z.number(),
            retired_layers: z.array(z.string()),
            total_size_bytes: z.number(),
            backups: z.array(backupAnswer),
          }),
        ),
      }),
      handle: async ({ query }) => {
        const vm = findVm(catalog, query.vm_name);
        const chains = repositories.all().flatMap((repository) => {
          const members = catalog.backups.completed(vm.contextId, repository.id);
          return chainsOf(chainMembers(catalog, vm.contextId, repository.id))
            .filter((chain) => query.disk === undefined || chain.diskIndex === query.disk)
            .map((chain) => ({
              diskId: chain.diskIndex,
              repository: repository.name,
              fullBackupId: chain.fullBackupId,
              latestBackupId: chain.latestBackupId,
              totalBackups: chain.backups.filter(({ retired }) => !retired).length,
              totalLayers: chain.backups.length,
              retiredLayers: chain.backups.filter(({ retired }) => retired).map(({ layer }) => layer),
              totalSizeBytes: chain.totalSizeBytes,
              backups: members
                .filter((member) => chain.backups.some((backup) => backup.backupId === member.id))
                .map((member) => ({
                  ...backupView(member, deps),
                  disks: backupView(member, deps).disks.filter((disk) => disk.diskId === chain.diskIndex),
                })),
            }));
        });
        return { chains };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/backup/{backup_id}',
      tag,
      summary: 'One backup',
      access: { role: 'viewer', about: ['backup_id'] },
      params: backupParams,
      answer: backupAnswer,
      handle: async ({ params }) => backupView(findBackup(catalog, params.backup_id), deps),
    }),
    defineRoute({
      method: 'delete',
      path: '/backup/{backup_id}',
      tag,
      summary: 'Delete a backup; 409 with the ids of those that need it',
      access: { role: 'admin', about: ['backup_id'] },
      params: backupParams,
      query: z.strictObject({ cascade: flag, merge: flag, force: flag, dry_run: flag }),
      answer: z.object({
        backup_ids: z.array(z.string()),
        kept_dependants: z.array(z.string()),
        freed_bytes: z.number(),
        deleted: z.boolean(),
      }),
      handle: async ({ params, query }) => {
        const { cascade, merge, force } = query;
        if (cascade && merge)
          throw new SendenseError('REQUEST_INVALID', { detail: 'cascade and merge exclude each other' });
        const plan = query.dry_run
          ? planDelete(catalog, params.backup_id, { cascade, merge, force })
          : await deleteBackup(deps, params.backup_id, { cascade, merge, force });
        return { ...plan, deleted: !query.dry_run };
      },
    }),
  ];
}
