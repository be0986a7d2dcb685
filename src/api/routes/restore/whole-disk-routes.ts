import { z } from 'zod';
import type { RestoreDeps } from '../../../jobs/restore/restore-deps.ts';
import { planRestoreDisk, startRestoreDisk } from '../../../jobs/restore/start-restore-disk.ts';
import { startRestoreVm } from '../../../jobs/restore/start-restore-vm.ts';
import { defineRoute, type Route } from '../../route.ts';
import { backupRef, jobAnswer, path } from '../../schemas.ts';
import { jobView } from '../../views.ts';

const tag = 'restore';
// not coerced as in a query: null, [] and true are no disks
const disk = z.number().int().min(0).max(9999).default(0);
const overwrite = z.boolean().default(false);
const format = z.enum(['raw', 'qcow2', 'vmdk', 'vhdx']).default('raw');
const resume = z.enum(['auto', 'required', 'never']).default('auto').meta({
  description: 'Going on with an interrupted restore: when there is one, or nothing else, or never',
});
const keepPartial = z
  .boolean()
  .default(false)
  .meta({ description: 'What is written stays when the job is cancelled' });
const output = path.meta({ description: 'Absolute path of a file or block device, or an NBD URI' });
const differential = z
  .boolean()
  .default(false)
  .meta({ description: 'Only what differs from the existing target is written' });

/** Whole disks of a restore point: to files, devices and NBD exports. */
export function wholeDiskRoutes(deps: RestoreDeps): Route[] {
  return [
    defineRoute({
      method: 'post',
      path: '/restore/disk',
      tag,
      status: 202,
      summary: 'Write one disk of a restore point to a file, a block device or an NBD export',
      access: { role: 'restore', about: ['backup_id'] },
      answer: jobAnswer,
      body: z.strictObject({
        backup_id: backupRef,
        disk,
        output,
        format,
        overwrite,
        differential,
        resume,
        keep_partial: keepPartial,
        confirm_device: path
          .nullish()
          .meta({ description: 'For a device or an NBD export: exactly what `output` says' }),
      }),
      handle: async ({ body, caller }) => {
        await caller.confirmPlace(body.output);
        return jobView(
          await startRestoreDisk(deps, {
            backup: body.backup_id,
            diskIndex: body.disk,
            output: body.output,
            format: body.format,
            overwrite: body.overwrite,
            differential: body.differential,
            resume: body.resume,
            keepPartial: body.keep_partial,
            confirmDevice: body.confirm_device ?? null,
          }),
        );
      },
    }),
    defineRoute({
      method: 'post',
      path: '/restore/disk/plan',
      tag,
      summary: 'What a restore of a disk would overwrite; changes nothing',
      access: { role: 'restore', about: ['backup_id'] },
      answer: z.looseObject({
        backup_id: z.string(),
        kind: z.enum(['file', 'device', 'nbd']),
        path: z.string(),
        disk_bytes: z.number(),
        target_bytes: z.number().nullable(),
        model: z.string().nullable(),
        contents: z.array(z.string()),
        interrupted: z.object({ backup_id: z.string(), done_bytes: z.number() }).nullable(),
      }),
      body: z.strictObject({ backup_id: backupRef, disk, output, overwrite, differential }),
      handle: async ({ body, caller }) => {
        await caller.confirmPlace(body.output);
        return await planRestoreDisk(deps, {
          backup: body.backup_id,
          diskIndex: body.disk,
          output: body.output,
          overwrite: body.overwrite,
          differential: body.differential,
        });
      },
    }),
    defineRoute({
      method: 'post',
      path: '/restore/vm',
      tag,
      status: 202,
      summary: 'Write all disks of a restore point into a folder',
      access: { role: 'restore', about: ['backup_id'] },
      answer: jobAnswer,
      body: z.strictObject({
        backup_id: backupRef,
        output: path,
        format,
        overwrite,
        resume,
        keep_partial: keepPartial,
      }),
      handle: async ({ body, caller }) => {
        await caller.confirmPlace(body.output);
        return jobView(
          await startRestoreVm(deps, {
            backup: body.backup_id,
            output: body.output,
            format: body.format,
            overwrite: body.overwrite,
            resume: body.resume,
            keepPartial: body.keep_partial,
          }),
        );
      },
    }),
  ];
}
