import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { chainMembers, refreshChains, updateLayers } from '../../catalog/points/record-backup.ts';
import { membersOnLayer } from '../../repository/layers/chains.ts';
import { diskIndexes } from '../../repository/layers/disk-layers.ts';
import { readRetired } from '../../repository/layers/retired-layers.ts';
import { carryOutMerge, type RewriteStep, settleMerge } from '../../repository/merge/carry-out-merge.ts';
import { mergeLayersOf } from '../../repository/merge/merge-layers.ts';
import { type MergeLayer, planCompression, planCut, planMerges } from '../../repository/merge/plan-merge.ts';
import { compressionOf, confirmWritable, repositorySpace } from '../../repository/open-repository.ts';
import { findManifest } from '../../repository/publish-backup.ts';
import type { JobContext } from '../job-work.ts';
import type { LockRequest, ResourceLocks } from '../resource-locks.ts';
import { type MachinePlace, releaseLayers } from './retire-backup.ts';
import { freedBy, rewriteSentences } from './rewrite-effects.ts';

export interface ConsolidateDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly locks: ResourceLocks;
  /** For the sockets of the tools. */
  readonly workFolder: string;
  readonly reserveBytes: number;
}

export interface ConsolidateOptions {
  /** Layers above which the newest restore point gets a full of its own. */
  readonly maxDepth: number;
  readonly rateBytes: number | null;
  /** Where a merge in place is not possible now, write a new full beside the old files. */
  readonly besideWhenHeld: boolean;
  /** Ends the work soon; called by who goes first. */
  readonly giveWay: () => void;
}

export interface ConsolidateResult {
  readonly steps: number;
  /** Bytes of the layers that were read and written anew. */
  readonly movedBytes: number;
  readonly freedBytes: number;
  /** What could not be done now, and why. */
  readonly postponed: readonly string[];
}

/**
 * Rids the chains of one machine of the layers of deleted backups and shortens the ones that are too long. The caller
 * holds the chain lock exclusively. Every restore point reads the same at every instant.
 * @throws CANCELLED, REPOSITORY_UNAVAILABLE, and what the tools fail with; what was done until then stays done
 */
export async function consolidate(
  deps: ConsolidateDeps,
  place: MachinePlace,
  options: ConsolidateOptions,
  context: JobContext,
): Promise<ConsolidateResult> {
  const work = new Consolidation(deps, place, options, context);
  return await work.run();
}

class Consolidation {
  readonly #deps: ConsolidateDeps;
  readonly #place: MachinePlace;
  readonly #options: ConsolidateOptions;
  readonly #context: JobContext;
  readonly #postponed: string[] = [];
  #steps = 0;
  #movedBytes = 0;
  #freedBytes = 0;
  /** Layer → length of its file before this round. */
  #sizes = new Map<string, number>();

  constructor(deps: ConsolidateDeps, place: MachinePlace, options: ConsolidateOptions, context: JobContext) {
    this.#deps = deps;
    this.#place = place;
    this.#options = options;
    this.#context = context;
  }

  async run(): Promise<ConsolidateResult> {
    const { repository, vm } = this.#place;
    await confirmWritable(repository);
    this.#context.setPhase('merging');
    await this.#release();
    for (const diskIndex of await diskIndexes(repository.root, vm.vmUuid)) {
      await this.#settle(diskIndex);
      for (const step of planMerges(await this.#layersOf(diskIndex))) await this.#attempt(diskIndex, step);
      await this.#shorten(diskIndex);
    }
    if ((await compressionOf(repository)) === 'zstd') await this.#compress();
    await this.#release();
    return {
      steps: this.#steps,
      movedBytes: this.#movedBytes,
      freedBytes: this.#freedBytes,
      postponed: this.#postponed,
    };
  }

  async #layersOf(diskIndex: number): Promise<MergeLayer[]> {
    const layers = await mergeLayersOf(this.#mergePlace(diskIndex));
    this.#sizes = new Map(layers.map(({ layer, bytes }) => [layer, bytes]));
    return layers;
  }

  #mergePlace(diskIndex: number) {
    return { root: this.#place.repository.root, vmUuid: this.#place.vm.vmUuid, diskIndex };
  }

  /** An earlier round may have failed in the last effects of a merge. */
  async #settle(diskIndex: number): Promise<void> {
    const merge = await settleMerge(this.#mergePlace(diskIndex), this.#carryOutDeps(0));
    if (merge?.sidecar) await this.#catalogue(merge.sidecar.backup_id);
  }

  async #shorten(diskIndex: number): Promise<void> {
    const { catalog } = this.#deps;
    const { vm, repository } = this.#place;
    const newest = catalog.backups
      .completed(vm.contextId, repository.id)
      .findLast((backup) => backup.disks.some((disk) => disk.diskIndex === diskIndex));
    const layer = newest?.disks.find((disk) => disk.diskIndex === diskIndex)?.layer;
    if (layer === undefined) return;
    const step = planCut(await mergeLayersOf(this.#mergePlace(diskIndex)), layer, this.#options.maxDepth);
    if (step) await this.#attempt(diskIndex, step);
  }

  /** Last, so that nothing is compressed that is merged away in the same round. */
  async #compress(): Promise<void> {
    const { repository, vm } = this.#place;
    this.#context.setPhase('compressing');
    for (const diskIndex of await diskIndexes(repository.root, vm.vmUuid))
      for (const step of planCompression(await this.#layersOf(diskIndex)))
        await this.#attempt(diskIndex, step);
  }

  /** One step; what stands in its way is noted, so that the others are done all the same. */
  async #attempt(diskIndex: number, step: RewriteStep): Promise<void> {
    this.#context.signal.throwIfAborted();
    const isBeside = step.operation === 'full' || step.operation === 'compress';
    const readers = isBeside ? [] : this.#readersOf(diskIndex, step.top);
    let release: () => void;
    try {
      release = this.#deps.locks.acquire(`job ${this.#context.jobId}`, readers, this.#options.giveWay);
    } catch (error) {
      if (!hasCode(error, 'BACKUP_BUSY')) throw error;
      if (this.#options.besideWhenHeld)
        return await this.#attempt(diskIndex, { operation: 'full', top: step.top, bytes: step.bytes });
      this.#postponed.push(`disk ${diskIndex}, ${step.top}: ${messageOf(error)}`);
      return;
    }
    try {
      await this.#checkSpace(step.bytes);
      await this.#carryOut(diskIndex, step);
    } catch (error) {
      // a damaged chain is left as it is: merging would hide the damage
      const isLocal = hasCode(
        error,
        'LAYER_CORRUPT',
        'LAYER_REFUSED',
        'CHAIN_PARENT_MISSING',
        'FORMAT_INVALID',
        'REPOSITORY_FULL',
      );
      if (!isLocal && !isFull(error)) throw error;
      const reason = isFull(error)
        ? new SendenseError(
            'REPOSITORY_FULL',
            { path: this.#place.repository.root, detail: 'the merge needs more than is free' },
            error,
          )
        : error;
      this.#postponed.push(`disk ${diskIndex}, ${step.top}: ${messageOf(reason)}`);
    } finally {
      release();
    }
  }

  async #carryOut(diskIndex: number, step: RewriteStep): Promise<void> {
    const { catalog } = this.#deps;
    const { vm, repository } = this.#place;
    const sidecar = await carryOutMerge(this.#mergePlace(diskIndex), step, this.#carryOutDeps(step.bytes));
    this.#context.intent('merge-catalogued', { disk_index: diskIndex, layer: step.top });
    await this.#catalogue(sidecar.backup_id);
    this.#context.fact('merge-catalogued', { disk_index: diskIndex, layer: step.top });
    this.#steps += 1;
    this.#movedBytes += step.bytes;
    this.#freedBytes += freedBy(step, this.#sizes, sidecar.file_bytes);
    catalog.events.add({
      kind: 'chain.consolidated',
      severity: 'info',
      subject: vm.name,
      message: `Disk ${diskIndex} of "${vm.name}": ${rewriteSentences[step.operation]} ${step.top} (${formatBytes(step.bytes)}).`,
      data: { repository: repository.name, disk_index: diskIndex, ...step },
    });
  }

  async #catalogue(backupId: string): Promise<void> {
    const { catalog, clock } = this.#deps;
    const { vm, repository } = this.#place;
    const manifest = await findManifest(repository.root, vm.vmUuid, backupId);
    const retired = await readRetired(repository.root, vm.vmUuid);
    catalog.transaction(() => {
      if (manifest) updateLayers(catalog, manifest);
      catalog.retired.replace(vm.contextId, repository.id, retired);
      refreshChains(catalog, vm.contextId, repository.id, clock.now());
    });
  }

  #carryOutDeps(totalBytes: number) {
    const { logger, workFolder } = this.#deps;
    const startedMs = Date.now();
    return {
      logger,
      onStep: (step: string) => this.#context.intent(`merge-${step}`),
      control: {
        workFolder: join(workFolder, this.#context.jobId),
        rateBytes: this.#options.rateBytes,
        signal: this.#context.signal,
        onProgress: (fraction: number) => {
          const processedBytes = Math.round(fraction * totalBytes);
          const seconds = Math.max(1, Date.now() - startedMs) / 1000;
          this.#context.setProgress({
            totalBytes,
            processedBytes,
            transferredBytes: processedBytes,
            bytesPerSecond: Math.round(processedBytes / seconds),
            etaSeconds: fraction > 0 ? Math.ceil((seconds * (1 - fraction)) / fraction) : null,
          });
        },
      },
    };
  }

  /** Restore points that are read through a layer: their files must not be open while it is merged in place. */
  #readersOf(diskIndex: number, layer: string): LockRequest[] {
    const { vm, repository } = this.#place;
    const members = chainMembers(this.#deps.catalog, vm.contextId, repository.id);
    return membersOnLayer(members, diskIndex, layer).map((id) => ({
      resource: `backup:${id}`,
      exclusive: true,
      busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: id, holder }),
    }));
  }

  async #checkSpace(neededBytes: number): Promise<void> {
    const { root } = this.#place.repository;
    const { availableBytes } = await repositorySpace(root);
    if (availableBytes < neededBytes + this.#deps.reserveBytes)
      throw new SendenseError('REPOSITORY_FULL', {
        path: root,
        detail: `${formatBytes(neededBytes)} are needed besides the reserve, ${formatBytes(availableBytes)} are free`,
      });
  }

  /** Only while nobody reads any restore point of the machine: an old mount may still hold names of layers. */
  async #release(): Promise<void> {
    const { vm, repository } = this.#place;
    const all = chainMembers(this.#deps.catalog, vm.contextId, repository.id);
    let giveBack: () => void;
    try {
      giveBack = this.#deps.locks.acquire(
        `job ${this.#context.jobId}`,
        all.map(({ id }) => ({
          resource: `backup:${id}`,
          exclusive: true,
          busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: id, holder }),
        })),
      );
    } catch (error) {
      if (hasCode(error, 'BACKUP_BUSY')) return; // the next round does it
      throw error;
    }
    try {
      this.#freedBytes += await releaseLayers(this.#deps, this.#place);
    } finally {
      giveBack();
    }
  }
}

/** Each tool says it in its own way; all run in the C locale. */
const isFull = (error: unknown) =>
  hasCode(error, 'DISK_FULL') ||
  (hasCode(error, 'QMP_FAILED', 'TOOL_FAILED') && messageOf(error).includes('No space left on device'));
