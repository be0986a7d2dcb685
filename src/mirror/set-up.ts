import { randomBytes, randomUUID } from 'node:crypto';
import { hasCode, SendenseError } from '../base/sendense-error.ts';
import { addSlot, openMaster } from './crypto/key-slots.ts';
import { type FormatDocument, formatDocument, MIRROR_FORMAT } from './documents.ts';
import { layout } from './layout.ts';
import { readJson, writeJson } from './store/json-objects.ts';
import type { ObjectStore } from './store/object-store.ts';

export interface NewMirror {
  readonly mode: 'packed' | 'plain';
  readonly blockBytes: number;
  /** Null: not encrypted. */
  readonly passphrase: string | null;
}

/** What has to be known to open a mirror. */
export interface FoundMirror {
  readonly document: FormatDocument;
  readonly master: Buffer | null;
}

/**
 * Makes a prefix a mirror.
 * @throws MIRROR_OTHER when it is one already, or holds something else
 */
export async function createMirror(
  store: ObjectStore,
  place: string,
  wanted: NewMirror,
): Promise<FoundMirror> {
  const { mode, blockBytes, passphrase } = wanted;
  if (mode === 'plain' && passphrase !== null)
    throw new SendenseError('MIRROR_INVALID', {
      detail: 'the mode plain is not encrypted, so that any tool can read it; take the mode packed',
    });
  const other = (detail: string) => new SendenseError('MIRROR_OTHER', { place, detail });
  for await (const { key } of store.list('')) {
    if (key === layout.format || key.startsWith(layout.metadata)) throw other('it has one already');
    throw other(`there are other objects, as ${key}`);
  }
  const document: FormatDocument = {
    format: MIRROR_FORMAT,
    mirror_id: randomUUID(),
    mode,
    digest: 'blake3',
    encryption: passphrase === null ? 'none' : 'aes-256-gcm',
    block_bytes: blockBytes,
    created_at: new Date().toISOString(),
  };
  const master = passphrase === null ? null : randomBytes(32);
  // the key first: a mirror must never be there without one that opens it
  if (master !== null && passphrase !== null)
    await addSlot(store, document.mirror_id, master, { kind: 'passphrase', label: 'first', passphrase });
  try {
    await writeJson(store, layout.format, document, { ifAbsent: true });
  } catch (error) {
    if (hasCode(error, 'MIRROR_CONFLICT')) throw other('another appliance makes it one right now');
    throw error;
  }
  return { document, master };
}

/** @throws MIRROR_ABSENT, MIRROR_PASSPHRASE_MISSING, MIRROR_PASSPHRASE_WRONG */
export async function findMirror(
  store: ObjectStore,
  place: string,
  passphrase: string | null,
): Promise<FoundMirror> {
  let document: FormatDocument;
  try {
    document = await readJson(store, layout.format, formatDocument);
  } catch (error) {
    if (hasCode(error, 'MIRROR_OBJECT_MISSING')) throw new SendenseError('MIRROR_ABSENT', { place }, error);
    throw error;
  }
  if (document.encryption === 'none') return { document, master: null };
  if (passphrase === null) throw new SendenseError('MIRROR_PASSPHRASE_MISSING');
  return { document, master: await openMaster(store, document.mirror_id, passphrase) };
}
