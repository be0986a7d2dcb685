import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { Bucket, MemoryStore } from '../../../test/support/memory-store.ts';
import { KeyRing } from './key-ring.ts';
import { addSlot, newRecoveryKey, openMaster, removeSlot } from './key-slots.ts';

const ID = '11111111-1111-4111-8111-111111111111';
const OTHER = '22222222-2222-4222-8222-222222222222';
const code = (wanted: string) => expect.objectContaining({ code: wanted });

it('each slot opens the mirror by itself, nothing else does, and the last one stays', async () => {
  const store = new MemoryStore(new Bucket(), async () => undefined);
  const master = randomBytes(32);
  const recovery = newRecoveryKey();
  expect(recovery).toMatch(/^([A-HJ-NP-Z2-9]{4}-){7}[A-HJ-NP-Z2-9]{4}$/);
  await addSlot(store, ID, master, { kind: 'passphrase', label: 'a', passphrase: 'pa\u0308ssword' });
  await addSlot(store, ID, master, { kind: 'recovery', label: 'b', passphrase: recovery });
  // the same letters, composed differently by another keyboard
  expect(await openMaster(store, ID, 'p\u00e4ssword')).toEqual(master);
  expect(await openMaster(store, ID, recovery)).toEqual(master);
  await expect(openMaster(store, ID, 'passwordpassword')).rejects.toEqual(code('MIRROR_PASSPHRASE_WRONG'));
  // a slot that was copied from another mirror opens nothing
  await expect(openMaster(store, OTHER, recovery)).rejects.toEqual(code('MIRROR_PASSPHRASE_WRONG'));
  await expect(
    addSlot(store, ID, master, { kind: 'passphrase', label: 'c', passphrase: 'short' }),
  ).rejects.toEqual(code('MIRROR_INVALID'));
  await removeSlot(store, 1);
  await expect(openMaster(store, ID, 'p\u00e4ssword')).rejects.toEqual(code('MIRROR_PASSPHRASE_WRONG'));
  await expect(removeSlot(store, 2)).rejects.toEqual(code('MIRROR_LAST_KEY'));
  await expect(removeSlot(store, 1)).rejects.toEqual(code('MIRROR_KEY_UNKNOWN'));
}, 30_000);

it('what was sealed opens in its place only, and no bit of it can be changed', () => {
  const keys = new KeyRing(ID, randomBytes(32));
  const content = randomBytes(1000);
  const target = Buffer.alloc(2000, 9);
  const length = keys.sealFrameInto(target, 100, 'pack', content, 'here');
  expect(length).toBe(1028);
  expect(target.subarray(0, 100).equals(Buffer.alloc(100, 9))).toBe(true);
  expect(target.subarray(1128).equals(Buffer.alloc(872, 9))).toBe(true);
  const sealed = target.subarray(100, 1128);
  expect(keys.openFrame('pack', sealed, 'here')?.equals(content)).toBe(true);
  expect(keys.openFrame('pack', sealed, 'there')).toBeNull();
  expect(keys.openFrame('other', sealed, 'here')).toBeNull();
  expect(new KeyRing(ID, randomBytes(32)).openFrame('pack', sealed, 'here')).toBeNull();
  for (const at of [0, 11, 12, 500, 1027]) {
    const harmed = Buffer.from(sealed);
    harmed[at] = (harmed[at] ?? 0) ^ 1;
    expect(keys.openFrame('pack', harmed, 'here')).toBeNull();
  }
  expect(keys.openFrame('pack', sealed.subarray(0, 20), 'here')).toBeNull();
  expect(() => keys.sealFrameInto(Buffer.alloc(500), 0, 'pack', content, 'here')).toThrow(RangeError);
});
