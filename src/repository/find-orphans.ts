import type { Stats } from 'node:fs';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import pLimit from 'p-limit';
import { errnoOf, hasCode, SendenseError } from '../base/sendense-error.ts';
import { readQcow2Header } from '../qemu/qcow2-header.ts';
import { strayBootTests } from './boot-tests/stray-boot-tests.ts';
import { layerNamePattern, manifestDocument, vmDocument } from './documents.ts';
import { layerFiles, layout } from './layout.ts';
import { readDocument } from './read-document.ts';
import { isMachineFolder, readSidecar } from './read-repository.ts';

export type OrphanKind =
  /** Of a layer that was being written. */
  | 'partial'
  /** A document that was being written. */
  | 'temporary'
  | 'layer'
  | 'sidecar'
  | 'rows'
  /** A boot test that was being stored, or whose restore point is gone: a folder. */
  | 'boot test'
  | 'empty folder'
  /** A document that cannot be read; for a person to look at. */
  | 'unreadable'
  /** Nothing of ours. */
  | 'unknown';

/** Something in a repository that nothing names. */
export interface Orphan {
  /** Inside the repository. */
  readonly path: string;
  readonly kind: OrphanKind;
  readonly bytes: number;
  readonly modifiedAt: string;
  /** Why it stays whatever is asked; null: it may go. */
  readonly keep: string | null;
}

/** Files that are looked at at once: enough for the latency of a network file system. */
const limit = pLimit(16);
const STEM =
  /^((?:full|incr|diff)-\d{8}-\d{6}(?:-\d+)?)(\.qcow2|\.json|\.blocks\.json\.zst)(\.partial|\.tmp)?$/;
const WRITTEN = /^(?:full|incr|diff)-\d{8}-\d{6}(?:-\d+)?\.(?:written|journal)$/;
/** Layer names anywhere in a journal, whatever its form. */
const LAYER_IN_TEXT = /(?:full|incr|diff)-\d{8}-\d{6}(?:-\d+)?\.qcow2/g;
const endingKinds: Readonly<Record<string, OrphanKind>> = {
  '.qcow2': 'layer',
  '.json': 'sidecar',
  '.blocks.json.zst': 'rows',
};

/** What lies beside the machines. */
export async function rootOrphans(root: string): Promise<Orphan[]> {
  const found: Orphan[] = [];
  for (const name of (await readdir(root)).sort()) {
    if (name === 'repository.json' || name === 'lost+found' || name.startsWith('.lock.')) continue;
    const stats = await lstat(join(root, name));
    if (isMachineFolder(name) && stats.isDirectory()) continue;
    if (stats.isFile() && name.endsWith('.tmp'))
      found.push(orphan(root, join(root, name), 'temporary', stats));
    else found.push(orphan(root, join(root, name), 'unknown', stats, 'it is not ours'));
  }
  return found;
}

/**
 * Everything of one machine that no manifest, tombstone, pin or journal needs. Nothing may write there meanwhile.
 * Where a document cannot be read, the layers that it might name stay.
 */
export async function machineOrphans(root: string, vmUuid: string): Promise<Orphan[]> {
  const folder = layout.vmFolder(root, vmUuid);
  const found: Orphan[] = [];
  const { needed, doubt } = await neededLayers(root, vmUuid, found);
  const entries = (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    const disk = /^disk-(\d+)$/.exec(entry.name);
    if (entry.name === 'vm.json') continue;
    if (entry.isDirectory() && entry.name === 'backups') continue;
    if (entry.isDirectory() && entry.name === 'boot-tests') {
      found.push(...(await bootTestOrphans(root, vmUuid)));
      continue;
    }
    if (entry.isDirectory() && disk)
      found.push(...(await diskOrphans(root, path, needed.get(Number(disk[1])) ?? new Set(), doubt)));
    else if (entry.isFile() && entry.name.endsWith('.tmp')) found.push(await told(root, path, 'temporary'));
    else found.push(await told(root, path, 'unknown', 'it is not ours'));
  }
  if (await isEmptyMachine(folder)) found.push(await told(root, folder, 'empty folder'));
  return found;
}

/** Layers by disk that somebody stands on, and why there may be more. */
async function neededLayers(root: string, vmUuid: string, found: Orphan[]) {
  const needed = new Map<number, Set<string>>();
  const doubts: string[] = [];
  const keep = (diskIndex: number, layer: string) => {
    const known = needed.get(diskIndex) ?? new Set();
    needed.set(diskIndex, known.add(layer));
  };
  const vmFile = layout.vmFile(root, vmUuid);
  if (await isUnreadable(() => readDocument(vmFile, vmDocument)))
    found.push(await told(root, vmFile, 'unreadable', 'it cannot be read'));
  const backups = layout.backupsFolder(root, vmUuid);
  const isOwn = await lstat(backups).then(
    (stats) => stats.isDirectory(),
    () => true,
  );
  if (!isOwn) doubts.push('backups is no folder');
  for (const name of isOwn ? await namesOf(backups) : []) {
    const path = join(backups, name);
    if (name.endsWith('.tmp')) found.push(await told(root, path, 'temporary'));
    else if (/\.(json|deleted)$/.test(name)) {
      try {
        for (const disk of (await readDocument(path, manifestDocument)).disks)
          keep(disk.disk_index, disk.layer);
      } catch (error) {
        if (!(error instanceof SendenseError)) throw error;
        found.push(await told(root, path, 'unreadable', 'it cannot be read'));
        doubts.push(`${name} cannot be read`);
      }
    } else if (!name.endsWith('.pins')) found.push(await told(root, path, 'unknown', 'it is not ours'));
  }
  for (const entry of await readdir(layout.vmFolder(root, vmUuid))) {
    const index = /^disk-(\d+)$/.exec(entry)?.[1];
    if (index === undefined) continue;
    const folder = layout.diskFolder(root, vmUuid, Number(index));
    const journal = await readFile(join(folder, 'merge.json'), 'utf8').catch(() => '');
    for (const layer of journal.match(LAYER_IN_TEXT) ?? []) keep(Number(index), layer);
    for (let wave = [...(needed.get(Number(index)) ?? [])]; wave.length > 0; ) {
      const seen = new Set(needed.get(Number(index)));
      await limit.map(wave, (layer) => keepParents(folder, layer, Number(index)));
      wave = [...(needed.get(Number(index)) ?? [])].filter((layer) => !seen.has(layer));
    }
  }
  return { needed, doubt: doubts[0] ?? null };

  /** By sidecar and by header: what either names is needed. */
  async function keepParents(folder: string, layer: string, index: number): Promise<void> {
    const sidecar = await readSidecar(folder, layer).catch(() => null);
    const header = await readQcow2Header(layerFiles(folder, layer).image).catch(() => null);
    if (sidecar === null && header === null) doubts.push(`the parent of ${layer} is not known`);
    for (const parent of [sidecar?.parent_layer, header?.backingFile])
      if (typeof parent === 'string' && layerNamePattern.test(parent)) keep(index, parent);
  }
}

async function bootTestOrphans(root: string, vmUuid: string): Promise<Orphan[]> {
  const names = await namesOf(layout.backupsFolder(root, vmUuid));
  const standing = new Set(names.map((name) => name.replace(/\.(json|deleted)$/, '')));
  const strays = await strayBootTests(root, vmUuid, standing);
  return await limit.map(strays, async ({ path, isOurs, bytes }) => ({
    ...(await told(root, path, isOurs ? 'boot test' : 'unknown', isOurs ? null : 'it is not ours')),
    bytes,
  }));
}

async function isUnreadable(read: () => Promise<unknown>): Promise<boolean> {
  return await read().then(
    () => false,
    (error: unknown) => hasCode(error, 'FORMAT_INVALID', 'FORMAT_TOO_NEW'),
  );
}

async function diskOrphans(
  root: string,
  folder: string,
  needed: ReadonlySet<string>,
  doubt: string | null,
): Promise<Orphan[]> {
  const found: Orphan[] = [];
  const names = await namesOf(folder);
  const looked = await limit.map(names, async (name) => ({ name, stats: await lstat(join(folder, name)) }));
  for (const { name, stats } of looked) {
    const path = join(folder, name);
    const [, stem, ending = '', unfinished] = STEM.exec(name) ?? [];
    const isOurs = stats.isFile() && (stem !== undefined || WRITTEN.test(name) || name === 'merge.json.tmp');
    if (name === 'merge.json' && stats.isFile()) continue;
    if (!isOurs) found.push(orphan(root, path, 'unknown', stats, 'it is not ours'));
    else if (unfinished === '.tmp' || name === 'merge.json.tmp')
      found.push(orphan(root, path, 'temporary', stats));
    else if (unfinished === '.partial' || stem === undefined)
      found.push(orphan(root, path, 'partial', stats));
    else if (!needed.has(`${stem}.qcow2`))
      found.push(orphan(root, path, endingKinds[ending] ?? 'unknown', stats, doubt));
    else if (ending === '.json' && (await isUnreadable(() => readSidecar(folder, `${stem}.qcow2`))))
      found.push(orphan(root, path, 'unreadable', stats, 'it cannot be read'));
  }
  if (names.length === 0) found.push(await told(root, folder, 'empty folder'));
  return found;
}

/** A machine without backups, disks and description. */
async function isEmptyMachine(folder: string): Promise<boolean> {
  const names = await readdir(folder);
  return (
    names.length === 0 ||
    (names.join() === 'backups' && (await namesOf(join(folder, 'backups'))).length === 0)
  );
}

async function namesOf(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

const told = async (root: string, path: string, kind: OrphanKind, keep: string | null = null) =>
  orphan(root, path, kind, await lstat(path), keep);

const orphan = (
  root: string,
  path: string,
  kind: OrphanKind,
  stats: Stats,
  keep: string | null = null,
): Orphan => ({
  path: relative(root, path),
  kind,
  bytes: stats.isFile() ? stats.size : 0,
  modifiedAt: stats.mtime.toISOString(),
  keep,
});
