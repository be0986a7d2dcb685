import { randomUUID } from 'node:crypto';
import { hasCode } from '../../base/sendense-error.ts';
import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { condemnedDocument, MIRROR_FORMAT } from '../documents.ts';
import { layout, packIdIn } from '../layout.ts';
import type { Mirror, MirrorWriter } from '../mirror.ts';
import { confirmOwner } from '../owner.ts';
import type { CollectReport } from '../program/mirror-task.ts';
import { readJson, writeJson } from '../store/json-objects.ts';
import type { ObjectInfo } from '../store/object-store.ts';
import { takeUpSessions } from '../upload/session.ts';
import { neededKeys } from './needed-keys.ts';

/**
 * Deletes what no restore point needs, in two runs. The first condemns: it reads all manifests and writes down what
 * nothing refers to. The next one, later by `graceMs` on the clock of the server, reads all manifests again and deletes
 * what is still not needed, unless somebody is uploading. A writer says so in the bucket before it looks at the
 * condemned lists; so either it sees the list and relies on nothing in it, or it is seen here, or its manifest is.
 * A manifest that cannot be read ends the run: nobody knows what it needs.
 * @throws MIRROR_OBJECT_DAMAGED, MIRROR_OBJECT_MISSING, MIRROR_FENCED
 */
export async function collectGarbage(
  mirror: Mirror,
  writer: MirrorWriter,
  index: MirrorIndex,
  graceMs: number,
): Promise<CollectReport> {
  await confirmOwner(mirror, writer);
  // sessions of this appliance are of attempts that ended: nothing else of it runs beside this
  await takeUpSessions(mirror, index, writer);
  const now = await mirror.store.now();
  const swept = await sweep(mirror, index, new Date(now.getTime() - graceMs));
  const found = await unneeded(mirror, new Date(now.getTime() - graceMs));
  if (found.length === 0) return { ...swept, condemned: 0 };
  const keys = found.map(({ key }) => key);
  const document = { format: MIRROR_FORMAT, run_id: randomUUID(), epoch: writer.epoch, keys };
  // first here: a block in a condemned pack must not be taken for one that will stay
  dropPacks(index, keys);
  try {
    await writeJson(mirror.store, layout.condemnedRun(document.run_id), document);
  } catch (error) {
    if (!hasCode(error, 'MIRROR_FULL')) throw error;
    // not even the list can be written: this appliance is the only writer, and it is not writing
    return await deleteAtOnce(mirror, writer, found, swept);
  }
  return { ...swept, condemned: keys.length };
}

type Swept = Pick<CollectReport, 'deleted' | 'freedBytes' | 'waiting'>;

async function sweep(mirror: Mirror, index: MirrorIndex, before: Date): Promise<Swept> {
  const { store } = mirror;
  const due: string[] = [];
  for await (const { key, modifiedAt } of store.list(layout.condemned))
    if (modifiedAt <= before) due.push(key);
  if (due.length === 0) return { deleted: 0, freedBytes: 0, waiting: null };
  const waiting = await uploadUnderWay(mirror);
  if (waiting !== null) return { deleted: 0, freedBytes: 0, waiting };
  const condemned = new Set<string>();
  for (const key of due)
    for (const one of (await readJson(store, key, condemnedDocument)).keys) condemned.add(one);
  // after the look at the uploads: one that has ended since has its manifest among these
  const needed = await neededKeys(mirror);
  const going = [...condemned].filter((key) => !needed.has(key));
  dropPacks(index, going);
  const { deleted, freedBytes } = await remove(mirror, going);
  await store.delete(due);
  return { deleted, freedBytes, waiting: null };
}

async function uploadUnderWay({ store }: Mirror): Promise<string | null> {
  for await (const { key } of store.list(layout.uploads)) return `an upload is under way: ${key}`;
  return null;
}

/** Objects that nothing refers to and that are not new: what an upload that ended leaves is taken up by the next. */
async function unneeded(mirror: Mirror, before: Date): Promise<ObjectInfo[]> {
  const candidates: ObjectInfo[] = [];
  for (const prefix of [layout.packs, layout.blocks, layout.metadata])
    for await (const info of mirror.store.list(prefix)) if (info.modifiedAt <= before) candidates.push(info);
  if (candidates.length === 0) return [];
  // read after the list: what was committed meanwhile is needed
  const needed = await neededKeys(mirror);
  return candidates.filter(({ key }) => !needed.has(key));
}

function dropPacks(index: MirrorIndex, keys: readonly string[]): void {
  index.dropPacks(keys.map(packIdIn).filter((id) => id !== null));
}

async function remove(
  { store }: Mirror,
  keys: readonly string[],
): Promise<{ deleted: number; freedBytes: number }> {
  let deleted = 0;
  let freedBytes = 0;
  for (const key of keys) {
    const info = await store.head(key);
    if (info === null) continue;
    try {
      await store.delete([key]);
    } catch (error) {
      // it is condemned again when its lock is over
      if (hasCode(error, 'MIRROR_LOCKED')) continue;
      throw error;
    }
    deleted += 1;
    freedBytes += info.sizeBytes;
  }
  return { deleted, freedBytes };
}

async function deleteAtOnce(
  mirror: Mirror,
  writer: MirrorWriter,
  found: readonly ObjectInfo[],
  swept: Swept,
): Promise<CollectReport> {
  const waiting = await uploadUnderWay(mirror);
  if (waiting !== null) return { ...swept, condemned: 0, waiting };
  await confirmOwner(mirror, writer);
  const { deleted, freedBytes } = await remove(
    mirror,
    found.map(({ key }) => key),
  );
  return {
    condemned: 0,
    deleted: swept.deleted + deleted,
    freedBytes: swept.freedBytes + freedBytes,
    waiting: null,
  };
}
