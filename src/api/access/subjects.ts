import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { findBackup } from '../../jobs/find-backup.ts';
import type { JobEngine } from '../../jobs/job-engine.ts';
import { findMirrored } from '../../jobs/mirror/mirror-points.ts';
import { mirrorRef } from '../../jobs/mirror/open-mirror-disks.ts';
import type { LiveRegistry } from '../../restore/live/live-registry.ts';
import type { MountRegistry } from '../../restore/mount/mount-registry.ts';
import type { Caller } from './caller.ts';
import { isAtLeast, type RouteAccess, type SubjectField } from './route-access.ts';

export interface SubjectDeps {
  readonly catalog: Catalog;
  readonly engine: JobEngine;
  readonly mounts: MountRegistry;
  readonly lives: LiveRegistry;
}

/** The machine of a restore point by its whole id, also of one that is in a mirror only; null: not known. */
export function machineOfPoint(catalog: Catalog, backupId: string): string | null {
  return catalog.backups.byId(backupId)?.vmName ?? catalog.mirrors.machineOf(backupId);
}

/** A thing that a request names: whose it is, and its name in full, by which it cannot become another one. */
interface Found {
  readonly vmName: string | null;
  readonly exact: string;
}

const nobodys = (exact: string): Found => ({ vmName: null, exact });

function findPoint(catalog: Catalog, wanted: string): Found {
  const inMirror = mirrorRef(wanted);
  if (inMirror === null) {
    const { id, vmName } = findBackup(catalog, wanted);
    return { vmName, exact: id };
  }
  const record = catalog.mirrors.byName(inMirror.mirror);
  if (record === null) return nobodys(wanted);
  const { backupId, vmName } = findMirrored({ catalog }, record, inMirror.backup);
  return { vmName, exact: `${inMirror.mirror}/${backupId}` };
}

const find: Record<SubjectField, (deps: SubjectDeps, value: string) => Found> = {
  vm_name: (_deps, value) => ({ vmName: value, exact: value }),
  backup_id: ({ catalog }, value) => findPoint(catalog, value),
  mount_id: ({ catalog, mounts }, value) => {
    const session = mounts.list().find(({ mountId }) => mountId === value);
    return { vmName: session === undefined ? null : machineOfPoint(catalog, session.backupId), exact: value };
  },
  live_id: ({ catalog, lives }, value) => {
    const session = lives.list().find(({ live }) => live.liveId === value);
    return { vmName: session === undefined ? null : machineOfPoint(catalog, session.backupId), exact: value };
  },
  job_id: ({ engine }, value) => ({ vmName: engine.get(value)?.vmName ?? null, exact: value }),
};

/** As if it did not exist: who may not see it is not told that it does. */
const unknown: Record<SubjectField, (value: string) => SendenseError> = {
  vm_name: (vm) => new SendenseError('VM_UNKNOWN', { vm }),
  backup_id: (backup) => new SendenseError('BACKUP_UNKNOWN', { backup }),
  mount_id: (mount) => new SendenseError('MOUNT_UNKNOWN', { mount }),
  live_id: (live) => new SendenseError('LIVE_UNKNOWN', { live }),
  job_id: (job) => new SendenseError('JOB_UNKNOWN', { job }),
};

/** @throws ROLE_TOO_LOW */
export function confirmRole({ who, role }: Caller, access: RouteAccess): void {
  if (!isAtLeast(role, access.role))
    throw new SendenseError('ROLE_TOO_LOW', { needed: access.role, who, role });
}

/**
 * What a request is about is the caller's.
 * @param given path, query and body of the request, parsed
 * @returns the same, with whole names instead of `latest` and beginnings: what was looked at is what is done
 * @throws SCOPE_TOO_NARROW; VM_UNKNOWN, BACKUP_UNKNOWN and the like for what is another's
 */
export function confirmSubjects(
  deps: SubjectDeps,
  caller: Caller,
  { about }: RouteAccess,
  given: readonly Readonly<Record<string, unknown>>[],
): readonly Readonly<Record<string, unknown>>[] {
  if (!caller.isScoped || about === 'none' || about === 'listed') return given;
  const { who } = caller;
  if (about === 'appliance')
    throw new SendenseError('SCOPE_TOO_NARROW', { who, detail: 'this is about the whole appliance' });
  let isNamed = false;
  const exact = given.map((part) => {
    const whole = { ...part };
    for (const field of about) {
      const value = part[field];
      if (typeof value !== 'string') continue;
      isNamed = true;
      const found = findOrNobodys(deps, field, value);
      if (!caller.sees(found.vmName)) throw unknown[field](value);
      whole[field] = found.exact;
    }
    return whole;
  });
  if (!isNamed)
    throw new SendenseError('SCOPE_TOO_NARROW', { who, detail: 'this request is about all of them' });
  return exact;
}

/** What cannot be found, or not told apart from another's, is nobody's. */
function findOrNobodys(deps: SubjectDeps, field: SubjectField, value: string): Found {
  try {
    return find[field](deps, value);
  } catch (error) {
    if (error instanceof SendenseError) return nobodys(value);
    throw error;
  }
}
