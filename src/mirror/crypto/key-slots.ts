import { randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { SendenseError } from '../../base/sendense-error.ts';
import { type KeySlot, keySlotDocument, MIRROR_FORMAT } from '../documents.ts';
import { layout } from '../layout.ts';
import { readJson, writeJson } from '../store/json-objects.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { openWith, sealWith } from './key-ring.ts';

const derive = promisify<Buffer, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(
  scrypt,
);
/** About 64 MiB and 0.2 s for each guess. */
const COST = { n: 65_536, r: 8, p: 1 };
const MAX_MEMORY_BYTES = 2 ** 31;
export const MIN_PASSPHRASE = 8;
const MAX_SLOTS = 20;

const aadOf = (mirrorId: string, slot: number) => `${mirrorId} key ${slot}`;

async function keyFrom(passphrase: string, salt: Buffer, { n, r, p }: typeof COST): Promise<Buffer> {
  return await derive(Buffer.from(passphrase.normalize('NFC')), salt, 32, {
    N: n,
    r,
    p,
    maxmem: MAX_MEMORY_BYTES,
  });
}

export interface NewSlot {
  readonly kind: KeySlot['kind'];
  readonly label: string;
  readonly passphrase: string;
}

/** Wraps the master key under one more passphrase. @returns the number of its slot */
export async function addSlot(
  store: ObjectStore,
  mirrorId: string,
  master: Buffer,
  { kind, label, passphrase }: NewSlot,
): Promise<number> {
  if (passphrase.length < MIN_PASSPHRASE)
    throw new SendenseError('MIRROR_INVALID', {
      detail: `a passphrase has at least ${MIN_PASSPHRASE} characters`,
    });
  const taken = (await listSlots(store)).map(({ slot }) => slot);
  if (taken.length >= MAX_SLOTS)
    throw new SendenseError('MIRROR_INVALID', { detail: `there are ${MAX_SLOTS} keys already` });
  const slot = Math.max(0, ...taken) + 1;
  const salt = randomBytes(32);
  const sealed = sealWith(await keyFrom(passphrase, salt, COST), master, aadOf(mirrorId, slot));
  const document: KeySlot = {
    format: MIRROR_FORMAT,
    slot,
    kind,
    label,
    created_at: new Date().toISOString(),
    kdf: { name: 'scrypt', ...COST, salt: salt.toString('base64') },
    iv: sealed.subarray(0, 12).toString('base64'),
    wrapped: sealed.subarray(12).toString('base64'),
  };
  await writeJson(store, layout.key(slot), document, { ifAbsent: true });
  return slot;
}

export async function listSlots(store: ObjectStore): Promise<KeySlot[]> {
  const slots: KeySlot[] = [];
  for await (const { key } of store.list(layout.keys))
    slots.push(await readJson(store, key, keySlotDocument));
  return slots.toSorted((a, b) => a.slot - b.slot);
}

/** @throws MIRROR_PASSPHRASE_WRONG */
export async function openMaster(
  store: Pick<ObjectStore, 'get' | 'list'>,
  mirrorId: string,
  passphrase: string,
): Promise<Buffer> {
  for (const slot of await listSlots(store as ObjectStore)) {
    const master = await tryUnwrap(slot, mirrorId, passphrase);
    if (master) return master;
  }
  throw new SendenseError('MIRROR_PASSPHRASE_WRONG');
}

async function tryUnwrap(slot: KeySlot, mirrorId: string, passphrase: string): Promise<Buffer | null> {
  const { kdf, iv, wrapped } = slot;
  const key = await keyFrom(passphrase, Buffer.from(kdf.salt, 'base64'), kdf);
  const sealed = Buffer.concat([Buffer.from(iv, 'base64'), Buffer.from(wrapped, 'base64')]);
  return openWith(key, sealed, aadOf(mirrorId, slot.slot));
}

/** The master key is the same under each, so nothing else has to be written anew. @throws MIRROR_LAST_KEY */
export async function removeSlot(store: ObjectStore, slot: number): Promise<void> {
  const slots = await listSlots(store);
  if (!slots.some((one) => one.slot === slot)) throw new SendenseError('MIRROR_KEY_UNKNOWN', { slot });
  if (slots.length === 1) throw new SendenseError('MIRROR_LAST_KEY', { slot });
  await store.delete([layout.key(slot)]);
}

/** 160 random bits, in groups that can be read out over the telephone. No letters that look like digits. */
export function newRecoveryKey(): string {
  const alphabet = 'ABCDEFGHJKLMNPQRSTUVWXYZ23456789';
  const letters = [...randomBytes(32)].map((byte) => alphabet[byte % 32]).join('');
  return (letters.match(/.{1,4}/g) ?? []).join('-');
}
