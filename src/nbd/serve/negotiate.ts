import type { Socket } from 'node:net';
import {
  BASE_ALLOCATION,
  infoType,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  option,
  optionReply,
} from '../client/protocol.ts';
import type { RequestReader } from './request-reader.ts';
import type { ServedDisk } from './served-disk.ts';

/** HAS_FLAGS | READ_ONLY | CAN_MULTI_CONN */
const TRANSMISSION_FLAGS = 0x1 | 0x2 | 0x100;
/** Options whose answer is more than "not supported". */
const EXPORT_NAME = 1;
const LIST = 3;
const INFO = 6;
const LIST_META_CONTEXT = 9;
const REPLY_SERVER = 2;
const ERR_UNSUPPORTED = 2 ** 31 + 1;
const ERR_INVALID = 2 ** 31 + 3;
const ERR_UNKNOWN = 2 ** 31 + 6;
/** No honest option is longer. */
const MAX_OPTION_BYTES = 64 * 1024;

/** The only context there is. */
export const ALLOCATION_ID = 1;

/** What a client has chosen. */
export interface Chosen {
  readonly disk: ServedDisk;
  /** Reads are answered in chunks. */
  readonly isStructured: boolean;
  /** It may ask what is allocated. */
  readonly wantsAllocation: boolean;
}

/** Talks until the client has chosen an export. @returns null when it went away or broke the protocol */
export async function chooseExport(
  socket: Socket,
  reader: RequestReader,
  disks: readonly ServedDisk[],
  withoutZeroes: boolean,
): Promise<Chosen | null> {
  let isStructured = false;
  let contextOf: ServedDisk | null = null;
  const chosen = (disk: ServedDisk): Chosen => ({
    disk,
    isStructured,
    wantsAllocation: isStructured && contextOf === disk,
  });
  const find = (name: string) => disks.find((disk) => disk.name === name) ?? null;
  for (;;) {
    const head = await reader.read(16);
    if (head === null || head.readBigUInt64BE(0) !== OPTION_MAGIC) return null;
    const code = head.readUInt32BE(8);
    const length = head.readUInt32BE(12);
    if (length > MAX_OPTION_BYTES) return null;
    const data = await reader.read(length);
    if (data === null) return null;
    const reply = (type: number, body: Buffer = Buffer.alloc(0)) =>
      socket.write(optionAnswer(code, type, body));
    if (code === EXPORT_NAME) {
      const disk = find(data.toString());
      // this old option has no answer for "no"
      if (disk !== null) socket.write(exportAnswer(disk, withoutZeroes));
      return disk === null ? null : chosen(disk);
    }
    if (code === option.abort) {
      reply(optionReply.ack);
      return null;
    }
    if (code === LIST) {
      for (const { name } of disks) reply(REPLY_SERVER, lengthPrefixed(name));
      reply(optionReply.ack);
    } else if (code === option.go || code === INFO) {
      const name = nameIn(data);
      const disk = name === null ? null : find(name);
      if (disk === null) {
        reply(name === null ? ERR_INVALID : ERR_UNKNOWN);
        continue;
      }
      reply(optionReply.info, exportInfo(disk));
      reply(optionReply.ack);
      if (code === option.go) return chosen(disk);
    } else if (code === option.structuredReply) {
      isStructured = true;
      reply(optionReply.ack);
    } else if ((code === option.setMetaContext || code === LIST_META_CONTEXT) && isStructured) {
      const disk = find(nameIn(data) ?? '');
      const isSet = code === option.setMetaContext;
      if (isSet) contextOf = null;
      if (disk === null) {
        reply(ERR_UNKNOWN);
        continue;
      }
      if (disk.extents !== undefined && asksForAllocation(data, isSet)) {
        if (isSet) contextOf = disk;
        reply(optionReply.metaContext, metaContext(isSet ? ALLOCATION_ID : 0));
      }
      reply(optionReply.ack);
    } else reply(ERR_UNSUPPORTED);
  }
}

function optionAnswer(code: number, type: number, body: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  head.writeUInt32BE(code, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(body.length, 16);
  return Buffer.concat([head, body]);
}

function exportAnswer({ sizeBytes }: ServedDisk, withoutZeroes: boolean): Buffer {
  const answer = Buffer.alloc(withoutZeroes ? 10 : 134);
  answer.writeBigUInt64BE(BigInt(sizeBytes), 0);
  answer.writeUInt16BE(TRANSMISSION_FLAGS, 8);
  return answer;
}

function exportInfo({ sizeBytes }: ServedDisk): Buffer {
  const body = Buffer.alloc(12);
  body.writeUInt16BE(infoType.export, 0);
  body.writeBigUInt64BE(BigInt(sizeBytes), 2);
  body.writeUInt16BE(TRANSMISSION_FLAGS, 10);
  return body;
}

function metaContext(id: number): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(id);
  return Buffer.concat([head, Buffer.from(BASE_ALLOCATION)]);
}

/** Name of the export, then a count and so many queries; a list without any asks for all. */
function asksForAllocation(data: Buffer, isSet: boolean): boolean {
  let at = 4 + data.readUInt32BE(0);
  if (at + 4 > data.length) return false;
  const count = data.readUInt32BE(at);
  at += 4;
  if (count === 0) return !isSet;
  for (let index = 0; index < count && at + 4 <= data.length; index += 1) {
    const length = data.readUInt32BE(at);
    const query = data.toString('utf8', at + 4, at + 4 + length);
    if (query === BASE_ALLOCATION || query === 'base:') return true;
    at += 4 + length;
  }
  return false;
}

/** Length, name, count and kinds of information wanted, which we have only one of. */
function nameIn(data: Buffer): string | null {
  if (data.length < 6) return null;
  const length = data.readUInt32BE(0);
  return length > data.length - 6 ? null : data.toString('utf8', 4, 4 + length);
}

function lengthPrefixed(text: string): Buffer {
  const name = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  return Buffer.concat([length, name]);
}
