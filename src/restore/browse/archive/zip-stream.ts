import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { crc32, createDeflateRaw } from 'node:zlib';
import { SendenseError } from '../../../base/sendense-error.ts';
import { fileTypeOf } from '../file-type.ts';
import type { GuestNode } from '../guest-node.ts';
import { openChild } from '../guest-root.ts';
import { walkTree } from '../search/walk-tree.ts';
import {
  dataDescriptor,
  directoryHeader,
  endRecords,
  localHeader,
  type WrittenEntry,
  type ZipEntry,
} from './zip-records.ts';

/** Fast rather than small: it is packed while somebody waits. */
const DEFLATE_LEVEL = 1;
const READ_BYTES = 1024 * 1024;
/** Where a zip says what it does not hold. */
const LEFT_OUT_NAME = '_left-out.txt';
const MAX_LEFT_OUT_LINES = 1000;

/** A zip being made. */
interface Zip {
  /** The directory at the end, a piece per entry: about 100 bytes and the name. */
  readonly directory: Buffer[];
  readonly leftOut: string[];
  offset: number;
}

/**
 * A folder as a zip64 stream of files and folders. What a zip cannot hold is left out or changed, and told in a text
 * file at its end: see docs/adr/0034.
 */
export function zipStream(folder: GuestNode, signal: AbortSignal, release: () => Promise<void>): Readable {
  const stream = Readable.from(pieces(folder, signal), { objectMode: false, highWaterMark: READ_BYTES });
  stream.once('close', () => void release());
  return stream;
}

async function* pieces(folder: GuestNode, signal: AbortSignal): AsyncGenerator<Buffer> {
  const zip: Zip = { directory: [], leftOut: [], offset: 0 };
  const onSkipped = (names: readonly string[], reason: string) => {
    if (reason !== 'something else is mounted there')
      throw new SendenseError('MOUNT_FAILED', { detail: `reading "${shown(names)}" failed: ${reason}` });
    zip.leftOut.push(`${shown(names)}: ${reason}`);
  };
  for await (const { folder: parent, names } of walkTree(folder, { owner: zip, onSkipped })) {
    if (signal.aborted) throw new SendenseError('CANCELLED');
    await using node = await openChild(parent, Buffer.from(names.at(-1) ?? '', 'latin1'));
    // the walk says it too, when it wants to go down
    if (node === null) continue;
    const { stat } = node;
    const isFolder = stat.isDirectory();
    if (!isFolder && !stat.isFile()) {
      zip.leftOut.push(`${shown(names)}: a ${fileTypeOf(stat)}`);
      continue;
    }
    const name = nameIn(zip, names, isFolder);
    if (name === null) continue;
    const entry = { name, mode: Number(stat.mode), mtimeMs: Number(stat.mtimeMs), isFolder };
    yield* packed(zip, entry, isFolder ? null : contentOf(node));
  }
  yield* leftOutFile(zip);
  const directoryBytes = zip.directory.reduce((sum, each) => sum + each.length, 0);
  yield* zip.directory;
  yield endRecords(zip.directory.length, zip.offset, directoryBytes);
}

/** A backslash is a separator on Windows and could lead out of the folder there. */
function nameIn(zip: Zip, names: readonly string[], isFolder: boolean): Buffer | null {
  const plain = names.join('/').replaceAll('\\', '_');
  if (plain.length > 65_000) return null;
  if (names.some((name) => name.includes('\\')))
    zip.leftOut.push(`${shown(names)}: is here as ${Buffer.from(plain, 'latin1').toString()}`);
  return Buffer.from(isFolder ? `${plain}/` : plain, 'latin1');
}

async function* contentOf(node: GuestNode): AsyncGenerator<Buffer> {
  const file = await open(node.procPath, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  // closes the file in every case
  for await (const chunk of file.createReadStream({ highWaterMark: READ_BYTES })) yield chunk as Buffer;
}

async function* packed(
  zip: Zip,
  entry: ZipEntry,
  content: AsyncIterable<Buffer> | null,
): AsyncGenerator<Buffer> {
  const offset = zip.offset;
  const header = localHeader(entry);
  yield header;
  let crc = 0;
  let size = 0;
  let packedSize = 0;
  const counted = async function* () {
    for await (const chunk of content ?? []) {
      crc = crc32(chunk, crc);
      size += chunk.length;
      yield chunk;
    }
  };
  const deflate = createDeflateRaw({ level: DEFLATE_LEVEL });
  const source = Readable.from(counted(), { objectMode: false });
  source.on('error', (error) => deflate.destroy(error));
  try {
    for await (const chunk of source.pipe(deflate)) {
      packedSize += (chunk as Buffer).length;
      yield chunk as Buffer;
    }
  } finally {
    source.destroy();
    deflate.destroy();
  }
  const written: WrittenEntry = { ...entry, offset, crc, size, packedSize };
  const descriptor = dataDescriptor(written);
  yield descriptor;
  zip.directory.push(directoryHeader(written));
  zip.offset += header.length + packedSize + descriptor.length;
}

async function* leftOutFile(zip: Zip): AsyncGenerator<Buffer> {
  if (zip.leftOut.length === 0) return;
  const lines = zip.leftOut.slice(0, MAX_LEFT_OUT_LINES);
  const more = zip.leftOut.length - lines.length;
  const text = `Not in this zip, or under another name; a tar has all of it:\n${lines.join('\n')}\n${more > 0 ? `and ${more} more\n` : ''}`;
  const entry = { name: Buffer.from(LEFT_OUT_NAME), mode: 0o644, mtimeMs: Date.now(), isFolder: false };
  yield* packed(zip, entry, Readable.from([Buffer.from(text)]));
}

const shown = (names: readonly string[]) =>
  JSON.stringify(Buffer.from(names.join('/'), 'latin1').toString()).slice(1, -1);
