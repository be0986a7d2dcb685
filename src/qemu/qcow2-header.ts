import { open } from 'node:fs/promises';
import { safeSize } from '../base/units.ts';

/** qcow2 specification: "QFI\xfb". */
const MAGIC = 0x514649fb;
const EXTENSION_END = 0;
const EXTENSION_BACKING_FORMAT = 0xe2792aca;
const EXTENSION_DATA_FILE = 0x44415441;
/** Enough for the largest header: it must lie in the first cluster, and names are at most 1023 bytes. */
const PROBE_BYTES = 64 * 1024;

const FEATURE_DIRTY = 1n << 0n;
const FEATURE_CORRUPT = 1n << 1n;
const FEATURE_EXTERNAL_DATA = 1n << 2n;
/** Dirty, corrupt, external data, compression type, extended L2: all that QEMU knows up to 10. */
const KNOWN_FEATURES = 0b11111n;

export interface Qcow2Header {
  readonly version: number;
  readonly virtualSizeBytes: number;
  readonly clusterBytes: number;
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  readonly isEncrypted: boolean;
  readonly isDirty: boolean;
  readonly isCorrupt: boolean;
  readonly hasExternalData: boolean;
  readonly unknownFeatures: boolean;
}

/** Reads the header without QEMU, so that nothing named inside it is ever opened. Null: not a qcow2. */
export async function readQcow2Header(path: string): Promise<Qcow2Header | null> {
  await using handle = await open(path, 'r');
  const buffer = Buffer.alloc(PROBE_BYTES);
  const { bytesRead } = await handle.read(buffer, 0, PROBE_BYTES, 0);
  return parseQcow2Header(buffer.subarray(0, bytesRead));
}

/** Pure parser of the first bytes of a file. @throws RangeError when a qcow2 header contradicts itself */
export function parseQcow2Header(bytes: Buffer): Qcow2Header | null {
  if (bytes.length < 72 || bytes.readUInt32BE(0) !== MAGIC) return null;
  const version = bytes.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw new RangeError(`version ${version}`);
  if (version === 3 && bytes.length < 104) throw new RangeError('truncated header');
  const clusterBits = bytes.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) throw new RangeError(`cluster_bits ${clusterBits}`);
  const features = version === 3 ? bytes.readBigUInt64BE(72) : 0n;
  const headerLength = version === 3 ? bytes.readUInt32BE(100) : 72;
  const backingOffset = safeSize(bytes.readBigUInt64BE(8), 'backing offset');
  const backingLength = bytes.readUInt32BE(16);
  const extensions = parseExtensions(bytes, headerLength, backingOffset);
  return {
    version,
    virtualSizeBytes: safeSize(bytes.readBigUInt64BE(24), 'virtual size'),
    clusterBytes: 2 ** clusterBits,
    backingFile: backingOffset === 0 ? null : textAt(bytes, backingOffset, backingLength),
    backingFormat: extensions.backingFormat,
    isEncrypted: bytes.readUInt32BE(32) !== 0,
    isDirty: (features & FEATURE_DIRTY) !== 0n,
    isCorrupt: (features & FEATURE_CORRUPT) !== 0n,
    hasExternalData: (features & FEATURE_EXTERNAL_DATA) !== 0n || extensions.hasDataFile,
    unknownFeatures: (features & ~KNOWN_FEATURES) !== 0n,
  };
}

function textAt(bytes: Buffer, offset: number, length: number): string {
  if (length === 0 || length > 1023 || offset + length > bytes.length)
    throw new RangeError('backing file name out of bounds');
  return bytes.toString('utf8', offset, offset + length);
}

function parseExtensions(bytes: Buffer, start: number, backingOffset: number) {
  const end = backingOffset > 0 ? Math.min(backingOffset, bytes.length) : bytes.length;
  let backingFormat: string | null = null;
  let hasDataFile = false;
  let position = start;
  while (position + 8 <= end) {
    const type = bytes.readUInt32BE(position);
    const length = bytes.readUInt32BE(position + 4);
    if (type === EXTENSION_END) break;
    if (position + 8 + length > end) throw new RangeError('header extension out of bounds');
    if (type === EXTENSION_BACKING_FORMAT)
      backingFormat = bytes.toString('utf8', position + 8, position + 8 + length);
    if (type === EXTENSION_DATA_FILE) hasDataFile = true;
    position += 8 + Math.ceil(length / 8) * 8;
  }
  return { backingFormat, hasDataFile };
}

/** Why an image with this header must not be opened at all; null when it may. */
export function headerObjection(header: Qcow2Header): string | null {
  if (header.hasExternalData) return 'it names an external data file';
  if (header.isEncrypted) return 'it is encrypted';
  if (header.isCorrupt) return 'it is marked corrupt';
  if (header.unknownFeatures) return 'it uses features that this version does not know';
  return null;
}
