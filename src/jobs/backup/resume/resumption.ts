import { z } from 'zod';
import { SendenseError } from '../../../base/sendense-error.ts';
import type { DiskAtAgent, SnapshotMemory } from '../../../capture/source.ts';
import type { JobStep } from '../../../catalog/jobs.ts';
import type { Vm } from '../../../catalog/vms.ts';
import { layerChain } from '../../../repository/layers/layer-chain.ts';
import type { DiskPlan, PlannedDisk } from '../plan/plan-disk.ts';

/** A plan without what is looked up anew. */
const savedPlan = z.object({
  type: z.enum(['full', 'incremental', 'differential']),
  reason: z.string().nullable(),
  parent_backup_id: z.string().nullable(),
  parent_layer: z.string().nullable(),
});
const taken = z.object({
  memory: z.record(z.string(), z.unknown()),
  disks: z.array(
    savedPlan.extend({
      disk_index: z.number(),
      key: z.string(),
      format: z.enum(['raw', 'qcow2']),
      size_bytes: z.number(),
    }),
  ),
});
const begun = savedPlan.extend({
  disk_index: z.number(),
  layer: z.string(),
  /** Absent for what is read here: that is opened anew. */
  source: z
    .object({
      kind: z.literal('agent'),
      snapshotId: z.string(),
      openedId: z.string(),
      identity: z.string().nullable(),
      hasChanges: z.boolean(),
    })
    .optional(),
});
const carried = z.object({
  disk_index: z.number(),
  layer: z.string(),
  export_name: z.string(),
  written_bytes: z.number(),
});

const created = z.object({ disk_index: z.number(), layer: z.string() });

type SavedPlan = z.infer<typeof savedPlan>;
export type Begun = Omit<z.infer<typeof begun>, 'source'> & { readonly source?: DiskAtAgent | undefined };

/** What a backup had reached when its daemon ended. */
export interface Resumption {
  readonly memory: SnapshotMemory;
  readonly disks: z.infer<typeof taken>['disks'];
  /** By disk: the layer that was being filled. */
  readonly begun: ReadonlyMap<number, Begun>;
  /** Layers that were made, or were about to be, and that nobody goes on with. */
  readonly abandoned: readonly z.infer<typeof created>[];
  /** By disk: the same, once it was filled. */
  readonly carried: ReadonlyMap<number, z.infer<typeof carried>>;
}

/** A machine that is frozen must not stay so while nobody is there; its backup begins anew. */
export const canResume = (vm: Pick<Vm, 'beforeCommand'>): boolean => vm.beforeCommand === null;

export const savePlan = ({ type, reason, parent }: DiskPlan): SavedPlan => ({
  type,
  reason,
  parent_backup_id: parent?.backupId ?? null,
  parent_layer: parent?.layers[0]?.layer ?? null,
});

/** The steps of the journal that a next daemon needs. @returns null when nothing can be gone on with. Pure. */
export function readResumption(steps: readonly JobStep[]): Resumption | null {
  if (steps.some(({ step }) => step === 'layer-sealed')) return null;
  const facts = (name: string) =>
    steps.filter(({ step, kind }) => step === name && kind === 'fact').map(({ detail }) => detail);
  const snapshot = taken.safeParse(facts('snapshot-taken').at(-1));
  if (!snapshot.success) return null;
  const started = z.array(begun).safeParse(facts('carry-begun'));
  const done = z.array(carried).safeParse(facts('carried'));
  if (!started.success || !done.success) return null;
  const newest = new Map(started.data.map((entry) => [entry.disk_index, entry]));
  const abandoned = steps
    .filter(({ step, kind }) => step === 'layer-created' && kind === 'intent')
    .map(({ detail }) => created.parse(detail))
    .filter(({ disk_index, layer }) => newest.get(disk_index)?.layer !== layer);
  return {
    ...snapshot.data,
    begun: newest,
    abandoned,
    // a layer that was thrown away after it was filled counts no more
    carried: new Map(
      done.data
        .filter(({ disk_index, layer }) => newest.get(disk_index)?.layer === layer)
        .map((entry) => [entry.disk_index, entry]),
    ),
  };
}

/** The plan again, with its chain checked as at the first time. @throws CHAIN_PARENT_MISSING, LAYER_… */
export async function restorePlan(
  root: string,
  vmUuid: string,
  diskIndex: number,
  saved: SavedPlan,
): Promise<DiskPlan> {
  const { type, reason, parent_backup_id, parent_layer } = saved;
  if (parent_backup_id === null || parent_layer === null) return { type, reason, parent: null };
  const layers = await layerChain(root, vmUuid, diskIndex, parent_layer);
  if (layers[0]?.sidecar.backup_id !== parent_backup_id)
    throw new SendenseError('CHAIN_PARENT_MISSING', { layer: parent_layer, parent: parent_backup_id });
  return { type, reason, parent: { backupId: parent_backup_id, layers } };
}

export async function restorePlanned(
  root: string,
  vmUuid: string,
  { disks }: Resumption,
): Promise<PlannedDisk[]> {
  return await Promise.all(
    disks.map(async (disk) => ({
      ...{ diskIndex: disk.disk_index, key: disk.key, format: disk.format, sizeBytes: disk.size_bytes },
      plan: await restorePlan(root, vmUuid, disk.disk_index, disk),
    })),
  );
}
