import { rm } from 'node:fs/promises';
import { pathExists } from 'fs-extra/esm';
import type { Clock } from '../../../base/clock.ts';
import { syncFolder } from '../../../base/durable-file.ts';
import type { Catalog } from '../../../catalog/catalog.ts';
import type { Job, JobStep } from '../../../catalog/jobs.ts';
import { recordBackup } from '../../../catalog/points/record-backup.ts';
import { layerNamePattern } from '../../../repository/documents.ts';
import { findLayers } from '../../../repository/layers/disk-layers.ts';
import { readManifests, readTombstones } from '../../../repository/layers/retired-layers.ts';
import { discardLayer } from '../../../repository/layers/seal-layer.ts';
import { layerFiles, layout } from '../../../repository/layout.ts';
import type { Repository } from '../../../repository/open-repository.ts';
import { findManifest } from '../../../repository/publish-backup.ts';

interface UnpublishedDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
}

/** A backup that a job was making, and the layers that its intents name. */
interface Attempt {
  readonly backupId: string;
  readonly vmUuid: string;
  readonly layers: { readonly diskIndex: number; readonly layer: string }[];
}

/**
 * Ends what a job began in a repository: a backup whose manifest stands is taken into the catalogue, of any other every
 * file is removed. Repeating it is fine.
 * @returns ids of the backups that stand
 */
export async function settleAttempts(
  deps: UnpublishedDeps,
  repository: Repository,
  job: Job,
): Promise<string[]> {
  const { root } = repository;
  const standing: string[] = [];
  for (const { backupId, vmUuid, layers } of attemptsOf(deps, job)) {
    const manifest = await findManifest(root, vmUuid, backupId);
    if (manifest) {
      if (deps.catalog.backups.byId(backupId)?.status !== 'completed')
        recordBackup(deps.catalog, repository, manifest, new Map(), deps.clock.now());
      standing.push(backupId);
      continue;
    }
    for (const { diskIndex, layer } of layers) {
      const folder = layout.diskFolder(root, vmUuid, diskIndex);
      if (await isNeeded(root, vmUuid, diskIndex, layer)) continue;
      await discardLayer(layerFiles(folder, layer));
      await syncFolder(folder).catch(() => undefined); // the folder may never have been made
    }
    // a manifest that was being written when the power went
    await rm(`${layout.manifestFile(root, vmUuid, backupId)}.tmp`, { force: true });
  }
  return standing;
}

/**
 * Nobody needs a layer of an unfinished job, unless the catalogue is a copy from before that job was finished: the
 * restore point may have been deleted since, and its layer kept for those above it, or merged with one of them.
 */
async function isNeeded(root: string, vmUuid: string, diskIndex: number, layer: string): Promise<boolean> {
  const { image } = layerFiles(layout.diskFolder(root, vmUuid, diskIndex), layer);
  if (!(await pathExists(image))) return false;
  const manifests = await readManifests(root, vmUuid);
  const isNamed = manifests.some(({ disks }) =>
    disks.some((disk) => disk.disk_index === diskIndex && disk.layer === layer),
  );
  if (isNamed) return true;
  const layers = await findLayers(root, vmUuid, diskIndex, await readTombstones(root, vmUuid));
  return layers.some(({ parents }) => parents.has(layer));
}

function attemptsOf({ catalog }: UnpublishedDeps, job: Job): Attempt[] {
  const contextId = String(job.request['context_id']);
  const own = { backupId: job.backupId ?? '', vmUuid: catalog.vms.byContext(contextId)?.vmUuid ?? '' };
  const attempts = new Map<string, Attempt>();
  // a backup whose manifest may stand although nothing of it was journaled any more
  if (job.kind === 'backup') attempts.set(own.backupId, { ...own, layers: [] });
  for (const step of catalog.jobs.steps(job.id)) {
    const layer = String(step.detail['layer']);
    if (!isLayerIntent(step) || !layerNamePattern.test(layer)) continue;
    const backupId = String(step.detail['backup_id'] ?? own.backupId);
    const vmUuid = String(step.detail['vm_uuid'] ?? own.vmUuid);
    const attempt = attempts.get(backupId) ?? { backupId, vmUuid, layers: [] };
    attempt.layers.push({ diskIndex: Number(step.detail['disk_index']), layer });
    attempts.set(backupId, attempt);
  }
  return [...attempts.values()].filter(({ backupId, vmUuid }) => backupId !== '' && vmUuid !== '');
}

const isLayerIntent = ({ step, kind }: JobStep) => step === 'layer-created' && kind === 'intent';

/** What jobs had to leave in this repository because it was away is cleaned up. */
export async function clearLeftBehind(deps: UnpublishedDeps, repository: Repository): Promise<void> {
  for (const job of deps.catalog.jobs.withLeftBehind()) {
    if (job.request['repository_id'] !== repository.id) continue;
    await settleAttempts(deps, repository, job);
    deps.catalog.jobs.addStep(job.id, { step: 'left-behind', kind: 'fact', detail: {} }, deps.clock.now());
  }
}
