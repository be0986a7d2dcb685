import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { giveBack } from '../../base/give-back.ts';

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** What sealing adds to the length. */
export const SEAL_BYTES = IV_BYTES + TAG_BYTES;

/**
 * The keys of one mirror, all derived from its master key by HKDF-SHA256 (RFC 5869): one for ids, one for MACs, one for
 * documents and one for each pack, so that no two packs ever share an IV under one key.
 */
export class KeyRing {
  readonly #mirrorId: string;
  readonly #master: Buffer | null;
  readonly #idKey: Buffer;
  readonly #macKey: Buffer;
  readonly #packKeys = new Map<string, Buffer>();

  /** @param master null: the mirror is not encrypted */
  constructor(mirrorId: string, master: Buffer | null) {
    this.#mirrorId = mirrorId;
    this.#master = master;
    this.#idKey = this.#derive('id');
    this.#macKey = this.#derive('mac');
  }

  get isEncrypted(): boolean {
    return this.#master !== null;
  }

  #derive(info: string): Buffer {
    // without a master key these protect against accidents only
    const secret = this.#master ?? Buffer.alloc(KEY_BYTES);
    return Buffer.from(hkdfSync('sha256', secret, this.#mirrorId, `sendense 1 ${info}`, KEY_BYTES));
  }

  /**
   * What a block is known by. Under encryption it tells nobody without the key what is in the block, not even whether
   * it is a certain known file.
   * @param b3 BLAKE3 of the content in hex
   */
  blockId(b3: string, sizeBytes: number): Buffer {
    return createHmac('sha256', this.#idKey).update(`${b3}:${sizeBytes}`).digest();
  }

  mac(content: string | Buffer): string {
    return createHmac('sha256', this.#macKey).update(content).digest('hex');
  }

  isMac(content: string | Buffer, mac: string): boolean {
    return timingSafeEqual(Buffer.from(this.mac(content), 'hex'), Buffer.from(mac, 'hex'));
  }

  /** @param purpose bound into it: what was sealed for one place opens in no other */
  seal(content: Buffer, purpose: string): Buffer {
    return sealWith(this.#derive('documents'), content, `${this.#mirrorId} ${purpose}`);
  }

  /** @returns null when it was changed, cut off, or made for another place */
  open(sealed: Buffer, purpose: string): Buffer | null {
    return openWith(this.#derive('documents'), sealed, `${this.#mirrorId} ${purpose}`);
  }

  sealFrame(packId: string, content: Buffer, purpose: string): Buffer {
    return sealWith(this.#packKey(packId), content, `${this.#mirrorId} ${packId} ${purpose}`);
  }

  /** The same, written where it will stay. @returns its length */
  sealFrameInto(target: Buffer, at: number, packId: string, content: Buffer, purpose: string): number {
    return sealInto(target, at, this.#packKey(packId), content, `${this.#mirrorId} ${packId} ${purpose}`);
  }

  openFrame(packId: string, sealed: Buffer, purpose: string): Buffer | null {
    return openWith(this.#packKey(packId), sealed, `${this.#mirrorId} ${packId} ${purpose}`);
  }

  #packKey(packId: string): Buffer {
    const known = this.#packKeys.get(packId);
    if (known) return known;
    const key = this.#derive(`pack ${packId}`);
    // a long restore sees many packs; deriving again is cheap
    if (this.#packKeys.size > 1000) this.#packKeys.clear();
    this.#packKeys.set(packId, key);
    return key;
  }
}

/** SHA-256 in hex: for documents that a manifest names. */
export const digestOf = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

/** IV, ciphertext, tag. AES-256-GCM with a random IV (NIST SP 800-38D). */
export function sealWith(key: Buffer, content: Buffer, aad: string): Buffer {
  const sealed = Buffer.alloc(content.length + SEAL_BYTES);
  sealInto(sealed, 0, key, content, aad);
  return sealed;
}

function sealInto(target: Buffer, at: number, key: Buffer, content: Buffer, aad: string): number {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(aad));
  const sealed = cipher.update(content);
  let end = at;
  // GCM is a stream: nothing is left for `final`, which only makes the tag
  for (const piece of [iv, sealed, cipher.final(), cipher.getAuthTag()]) end += piece.copy(target, end);
  giveBack(sealed);
  if (end - at !== content.length + SEAL_BYTES) throw new RangeError('a sealed frame does not fit');
  return end - at;
}

/** Nothing of the content is given out before its tag was checked. */
export function openWith(key: Buffer, sealed: Buffer, aad: string): Buffer | null {
  if (sealed.length < SEAL_BYTES) return null;
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, IV_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(Buffer.from(aad)).setAuthTag(sealed.subarray(-TAG_BYTES));
  try {
    const content = decipher.update(sealed.subarray(IV_BYTES, -TAG_BYTES));
    // of a stream nothing is left; this checks the tag
    decipher.final();
    return content;
  } catch {
    return null;
  }
}
