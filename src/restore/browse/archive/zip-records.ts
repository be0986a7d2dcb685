/** What a zip says about one of its entries. */
export interface ZipEntry {
  /** Folders end with a slash. */
  readonly name: Buffer;
  readonly mode: number;
  readonly mtimeMs: number;
  readonly isFolder: boolean;
}

/** Known only when the entry has been written. */
export interface WrittenEntry extends ZipEntry {
  readonly offset: number;
  readonly crc: number;
  readonly size: number;
  readonly packedSize: number;
}

/** PKWARE APPNOTE.TXT 4.4.4: sizes follow the data; names are UTF-8. */
const SIZES_FOLLOW = 0x0008;
const UTF8_NAME = 0x0800;
const DEFLATED = 8;
/** 4.4.3.2: the version that knows zip64. */
const VERSION = 45;
/** 4.4.2.2: made on Unix, so that the upper half of the external attributes is a mode. */
const MADE_ON_UNIX = 3 << 8;
const SEE_ZIP64 = 0xffffffff;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const DOS_FOLDER = 0x10;

function isUtf8(bytes: Buffer): boolean {
  return Buffer.from(bytes.toString()).equals(bytes);
}

const flagsOf = ({ name }: ZipEntry) => SIZES_FOLLOW | (isUtf8(name) ? UTF8_NAME : 0);

/** 4.4.6: local time in steps of two seconds from 1980 on; here UTC, the exact time is in the extra field. */
function dosTime(mtimeMs: number): number {
  const date = new Date(Math.min(Math.max(mtimeMs, Date.UTC(1980, 0, 1)), Date.UTC(2107, 11, 31)));
  const day = ((date.getUTCFullYear() - 1980) << 9) | ((date.getUTCMonth() + 1) << 5) | date.getUTCDate();
  const time = (date.getUTCHours() << 11) | (date.getUTCMinutes() << 5) | (date.getUTCSeconds() >> 1);
  return ((day << 16) | time) >>> 0;
}

/** Info-ZIP's extended timestamp, 0x5455: seconds since 1970, UTC. Left out when it does not fit. */
function timeField(mtimeMs: number): Buffer {
  const seconds = Math.floor(mtimeMs / 1000);
  if (seconds < -(2 ** 31) || seconds >= 2 ** 31) return Buffer.alloc(0);
  const field = Buffer.alloc(9);
  field.writeUInt16LE(0x5455, 0);
  field.writeUInt16LE(5, 2);
  field.writeUInt8(1, 4);
  field.writeInt32LE(seconds, 5);
  return field;
}

/** 4.5.3: sizes of 64 bits, and in the directory the place too. */
function zip64Field(...values: number[]): Buffer {
  const field = Buffer.alloc(4 + 8 * values.length);
  field.writeUInt16LE(1, 0);
  field.writeUInt16LE(8 * values.length, 2);
  for (const [index, value] of values.entries()) field.writeBigUInt64LE(BigInt(value), 4 + 8 * index);
  return field;
}

/** What stands before the data, 4.3.7. Every entry has sizes of 64 bits: nobody knows how long a stream gets. */
export function localHeader(entry: ZipEntry): Buffer {
  const extra = Buffer.concat([zip64Field(0, 0), timeField(entry.mtimeMs)]);
  const header = Buffer.alloc(30);
  header.writeUInt32LE(0x04034b50, 0);
  header.writeUInt16LE(VERSION, 4);
  header.writeUInt16LE(flagsOf(entry), 6);
  header.writeUInt16LE(DEFLATED, 8);
  header.writeUInt32LE(dosTime(entry.mtimeMs), 10);
  header.writeUInt32LE(SEE_ZIP64, 18);
  header.writeUInt32LE(SEE_ZIP64, 22);
  header.writeUInt16LE(entry.name.length, 26);
  header.writeUInt16LE(extra.length, 28);
  return Buffer.concat([header, entry.name, extra]);
}

/** What stands after the data, 4.3.9, in the zip64 form. */
export function dataDescriptor({ crc, size, packedSize }: WrittenEntry): Buffer {
  const descriptor = Buffer.alloc(24);
  descriptor.writeUInt32LE(0x08074b50, 0);
  descriptor.writeUInt32LE(crc, 4);
  descriptor.writeBigUInt64LE(BigInt(packedSize), 8);
  descriptor.writeBigUInt64LE(BigInt(size), 16);
  return descriptor;
}

/** One line of the directory at the end, 4.3.12. */
export function directoryHeader(entry: WrittenEntry): Buffer {
  const extra = Buffer.concat([
    zip64Field(entry.size, entry.packedSize, entry.offset),
    timeField(entry.mtimeMs),
  ]);
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(MADE_ON_UNIX | VERSION, 4);
  header.writeUInt16LE(VERSION, 6);
  header.writeUInt16LE(flagsOf(entry), 8);
  header.writeUInt16LE(DEFLATED, 10);
  header.writeUInt32LE(dosTime(entry.mtimeMs), 12);
  header.writeUInt32LE(entry.crc, 16);
  header.writeUInt32LE(SEE_ZIP64, 20);
  header.writeUInt32LE(SEE_ZIP64, 24);
  header.writeUInt16LE(entry.name.length, 28);
  header.writeUInt16LE(extra.length, 30);
  const mode = (entry.isFolder ? S_IFDIR : S_IFREG) | (entry.mode & 0o777);
  header.writeUInt16LE(entry.isFolder ? DOS_FOLDER : 0, 38);
  header.writeUInt16LE(mode, 40);
  header.writeUInt32LE(SEE_ZIP64, 42);
  return Buffer.concat([header, entry.name, extra]);
}

/** The very end, 4.3.14 to 4.3.16. */
export function endRecords(count: number, directoryOffset: number, directoryBytes: number): Buffer {
  const end64 = Buffer.alloc(56);
  end64.writeUInt32LE(0x06064b50, 0);
  end64.writeBigUInt64LE(44n, 4);
  end64.writeUInt16LE(MADE_ON_UNIX | VERSION, 12);
  end64.writeUInt16LE(VERSION, 14);
  end64.writeBigUInt64LE(BigInt(count), 24);
  end64.writeBigUInt64LE(BigInt(count), 32);
  end64.writeBigUInt64LE(BigInt(directoryBytes), 40);
  end64.writeBigUInt64LE(BigInt(directoryOffset), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(directoryOffset + directoryBytes), 8);
  locator.writeUInt32LE(1, 16);
  const end = Buffer.alloc(22, 0xff);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(0, 4);
  end.writeUInt16LE(0, 6);
  end.writeUInt16LE(0, 20);
  return Buffer.concat([end64, locator, end]);
}
