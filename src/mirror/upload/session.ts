import { randomUUID } from 'node:crypto';
import { hasCode } from '../../base/sendense-error.ts';
import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { MIRROR_FORMAT, type SessionDocument, sessionDocument } from '../documents.ts';
import { layout, packIdIn } from '../layout.ts';
import type { Mirror, MirrorWriter } from '../mirror.ts';
import { readFooter } from '../packs/pack-footer.ts';
import { readJson, writeJson } from '../store/json-objects.ts';

/** Written anew after so many packs: one more request for each dozen. */
const PACKS_PER_WRITE = 16;
/** No upload takes longer between its last look at the owner and its end. */
const FOREIGN_MS = 24 * 3600 * 1000;

/**
 * Says in the bucket that a point is being written. It is there before the condemned lists are read and until the
 * manifest stands: whoever collects garbage and sees none can be sure that no writer relies on what he deletes.
 */
export class UploadSession {
  readonly #mirror: Mirror;
  #document: SessionDocument;
  #unwritten = 0;

  private constructor(mirror: Mirror, document: SessionDocument) {
    this.#mirror = mirror;
    this.#document = document;
  }

  static async begin(mirror: Mirror, writer: MirrorWriter, point: string): Promise<UploadSession> {
    const document: SessionDocument = {
      format: MIRROR_FORMAT,
      session_id: randomUUID(),
      point,
      appliance_id: writer.applianceId,
      epoch: writer.epoch,
      started_at: new Date().toISOString(),
      packs: [],
    };
    const session = new UploadSession(mirror, document);
    await session.#write();
    return session;
  }

  async addPack(id: string): Promise<void> {
    this.#document = { ...this.#document, packs: [...this.#document.packs, id] };
    this.#unwritten += 1;
    if (this.#unwritten >= PACKS_PER_WRITE) await this.#write();
  }

  async #write(): Promise<void> {
    this.#unwritten = 0;
    const { point, session_id } = this.#document;
    await writeJson(this.#mirror.store, layout.session(point, session_id), this.#document);
  }

  async end(): Promise<void> {
    const { point, session_id } = this.#document;
    await this.#mirror.store.delete([layout.session(point, session_id)]);
  }
}

/**
 * Takes up what an earlier attempt of this appliance left: its packs are complete and need not be sent again. Only
 * while nothing else of this appliance writes to the mirror.
 * @returns how many packs were new to the index
 */
export async function takeUpSessions(
  mirror: Mirror,
  index: MirrorIndex,
  writer: MirrorWriter,
): Promise<number> {
  const done: string[] = [];
  let taken = 0;
  for await (const { key, modifiedAt } of mirror.store.list(layout.uploads)) {
    const session = await readJson(mirror.store, key, sessionDocument).catch((error: unknown) => {
      if (hasCode(error, 'MIRROR_OBJECT_MISSING', 'MIRROR_OBJECT_DAMAGED')) return null;
      throw error;
    });
    // an owner before us may still be about to commit: it is fenced, but not before its next look
    const isForeign = session !== null && session.epoch !== writer.epoch;
    if (isForeign && (await mirror.store.now()).getTime() - modifiedAt.getTime() < FOREIGN_MS) continue;
    for (const packId of session?.packs ?? []) {
      if (index.hasPack(packId)) continue;
      if (await indexPack(mirror, index, packId)) taken += 1;
    }
    done.push(key);
  }
  if (done.length > 0) await mirror.store.delete(done);
  return taken;
}

/** @returns false when it is not there or cannot be read */
export async function indexPack(mirror: Mirror, index: MirrorIndex, packId: string): Promise<boolean> {
  const { store, keys } = mirror;
  const info = await store.head(layout.pack(packId));
  if (info === null || packIdIn(info.key) === null) return false;
  try {
    const blocks = await readFooter(store, keys, packId, info.sizeBytes);
    index.addPack(
      packId,
      blocks.map(({ b3, rawBytes, at, len, codec }) => ({ id: keys.blockId(b3, rawBytes), at, len, codec })),
    );
    return true;
  } catch (error) {
    if (hasCode(error, 'MIRROR_OBJECT_DAMAGED', 'MIRROR_OBJECT_MISSING')) return false;
    throw error;
  }
}
