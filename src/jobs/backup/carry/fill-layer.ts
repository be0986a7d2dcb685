import { SendenseError, toSendenseError } from '../../../base/sendense-error.ts';
import type { MachineRef, ReadableDisk, SnapshotDisk } from '../../../capture/source.ts';
import type { MoveProgress } from '../../../nbd/mover/move-deps.ts';
import { createLayer } from '../../../qemu/qemu-img.ts';
import { claimLayer } from '../../../repository/layers/claim-layer.ts';
import { discardLayer } from '../../../repository/layers/seal-layer.ts';
import { type LayerFiles, layerFiles, layerStem, layout } from '../../../repository/layout.ts';
import type { JobContext } from '../../job-work.ts';
import type { DiskPlan } from '../plan/plan-disk.ts';
import { savePlan } from '../resume/resumption.ts';
import type { Suspension } from '../resume/suspension.ts';
import type { Carrier } from './carrier.ts';

export interface FillRequest {
  readonly contextId: string;
  readonly diskIndex: number;
  readonly vmUuid: string;
  readonly machine: MachineRef;
  readonly disk: SnapshotDisk;
  /** The disk as the mover reads it, with its changes when the plan has a parent and they are known. */
  readonly source: ReadableDisk;
  readonly plan: DiskPlan;
  readonly startedAt: Date;
  /** Limit of what goes to the layer; 0: none. */
  readonly bytesPerSecond: number;
  /** A layer that an earlier daemon began to fill with just this; null: a new one. */
  readonly begunLayer: string | null;
  readonly suspension: Suspension;
  readonly onProgress: (progress: MoveProgress) => void;
}

interface FillDeps {
  readonly carry: Carrier;
  readonly repositoryRoot: string;
}

/** A layer that has all its bytes and is closed, but not yet proven and not yet named. */
export interface FilledLayer {
  readonly diskIndex: number;
  readonly disk: SnapshotDisk;
  readonly plan: DiskPlan;
  readonly layer: string;
  readonly files: LayerFiles;
  readonly exportName: string;
  readonly writtenBytes: number;
}

/**
 * Makes the layer of one disk: an empty qcow2, an export that shows its guest bytes, a mover that fills it.
 * @throws what the mover, the tools or the source fail with; nothing of the layer is left then
 */
export async function fillLayer(
  deps: FillDeps,
  request: FillRequest,
  context: JobContext,
): Promise<FilledLayer> {
  const { vmUuid, diskIndex } = request;
  const place = { root: deps.repositoryRoot, vmUuid, diskIndex };
  let files: LayerFiles | null = null;
  try {
    const layer =
      request.begunLayer ?? (await claimLayer(place, layerStem(request.plan.type, request.startedAt)));
    files = layerFiles(layout.diskFolder(place.root, vmUuid, diskIndex), layer);
    return await fill(deps, request, context, layer, files);
  } catch (error) {
    // the next daemon goes on with it
    if (await request.suspension.stays()) throw error;
    if (files) await discardLayer(files);
    // the mover knows only the export and the tools only a file; people know the folder
    if (isFull(error, deps.repositoryRoot))
      throw new SendenseError(
        'REPOSITORY_FULL',
        { path: deps.repositoryRoot, detail: 'its file system took no more' },
        error,
      );
    throw error;
  }
}

/** Who met the full disk first decides its name: the export, the row file or `qemu-img create`. */
function isFull(error: unknown, repositoryRoot: string): boolean {
  const { code, fields } = toSendenseError(error);
  if (code === 'DISK_FULL') return String(fields['path']).startsWith(repositoryRoot);
  // tools run in the C locale
  if (code === 'TOOL_FAILED') return String(fields['detail']).includes('No space left on device');
  return code === 'REPOSITORY_FULL';
}

async function fill(
  deps: FillDeps,
  request: FillRequest,
  context: JobContext,
  layer: string,
  files: LayerFiles,
): Promise<FilledLayer> {
  const { plan, disk, diskIndex } = request;
  const parents = plan.parent?.layers ?? [];
  if (request.begunLayer === null) {
    context.intent('layer-created', { disk_index: diskIndex, layer });
    await createLayer(files.partial, disk.sizeBytes, parents[0]?.layer ?? null);
    context.fact('layer-created', { disk_index: diskIndex, layer });
    if (request.suspension.isPossible)
      context.fact('carry-begun', {
        ...{ disk_index: diskIndex, layer, ...savePlan(plan) },
        ...(request.source.kind === 'agent' ? { source: request.source } : {}),
      });
  }

  const carried = await deps.carry(
    {
      ...{ contextId: request.contextId, diskIndex, machine: request.machine, disk, plan, layer, files },
      bytesPerSecond: request.bytesPerSecond,
      ...{ source: request.source, onProgress: request.onProgress },
      isBegun: request.begunLayer !== null,
      exportTime: exportTime(layer),
    },
    context,
  );
  context.fact('carried', {
    ...{ disk_index: diskIndex, layer },
    ...{ export_name: carried.exportName, written_bytes: carried.writtenBytes },
  });
  return { diskIndex, disk, plan, layer, files, ...carried };
}

/** The layer's own time plus its collision suffix as seconds, so that an export name is never used twice. */
function exportTime(layer: string): Date {
  const match = /-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)(?:-(\d+))?\.qcow2$/.exec(layer);
  const [year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0, suffix = 0] = (match ?? [])
    .slice(1)
    .map((text) => Number(text ?? 0));
  return new Date(Date.UTC(year, month - 1, day, hour, minute, second + suffix));
}
