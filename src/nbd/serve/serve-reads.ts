import type { Socket } from 'node:net';
import {
  CHUNK_ERROR_BIT,
  CHUNK_FLAG_DONE,
  chunk,
  command,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from '../client/protocol.ts';
import { ALLOCATION_ID, type Chosen } from './negotiate.ts';
import type { RequestReader } from './request-reader.ts';
import type { ServedDisk } from './served-disk.ts';

/** Requests of one client that are worked on at once; further ones wait in its socket. */
const MAX_IN_FLIGHT = 16;
/** What QEMU and libnbd send at most. */
const MAX_READ_BYTES = 32 * 1024 * 1024;
const EPERM = 1;
const EIO = 5;
const EINVAL = 22;
const writing: readonly number[] = [command.write, command.trim, command.writeZeroes];

interface NbdRequest {
  readonly flags: number;
  readonly type: number;
  readonly cookie: Buffer;
  readonly offset: number;
  readonly length: number;
}

/** Answers reads until the client says goodbye or goes away. */
export async function serveReads(socket: Socket, reader: RequestReader, chosen: Chosen): Promise<void> {
  let inFlight = 0;
  let wake = () => {};
  for (;;) {
    const request = await nextRequest(reader);
    if (request === null || request.type === command.disconnect) break;
    inFlight += 1;
    void answer(socket, chosen, request).finally(() => {
      inFlight -= 1;
      wake();
    });
    while (inFlight >= MAX_IN_FLIGHT || (socket.writableNeedDrain && inFlight > 1))
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    // what is written by a client that must not write has a payload, which would be taken for requests
    if (request.type === command.write) break;
  }
  // who half-closes still waits for its answers
  while (inFlight > 0)
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
  await new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
    socket.end(() => resolve());
    if (socket.destroyed) resolve();
  });
}

async function nextRequest(reader: RequestReader): Promise<NbdRequest | null> {
  const head = await reader.read(28);
  if (head === null || head.readUInt32BE(0) !== REQUEST_MAGIC) return null;
  return {
    flags: head.readUInt16BE(4),
    type: head.readUInt16BE(6),
    cookie: head.subarray(8, 16),
    offset: Number(head.readBigUInt64BE(16)),
    length: head.readUInt32BE(24),
  };
}

async function answer(socket: Socket, chosen: Chosen, request: NbdRequest): Promise<void> {
  const { disk, isStructured, wantsAllocation } = chosen;
  const { type, offset, length } = request;
  let payload: Payload | null = null;
  let errno = 0;
  if (writing.includes(type)) errno = EPERM;
  else if (type === command.read) {
    if (length > MAX_READ_BYTES || offset + length > disk.sizeBytes) errno = EINVAL;
    else {
      const data = Buffer.allocUnsafe(length);
      await disk.read(offset, data).then(
        () => {
          payload = { type: chunk.offsetData, head: offsetHead(offset), data };
        },
        () => {
          errno = EIO;
        },
      );
    }
  } else if (type === command.blockStatus && wantsAllocation) {
    if (length === 0 || offset + length > disk.sizeBytes) errno = EINVAL;
    else payload = { type: chunk.blockStatus, head: Buffer.alloc(0), data: statusOf(disk, request) };
  } else if (type !== command.flush) errno = EINVAL;
  if (socket.destroyed) return;
  socket.cork();
  const needsChunks = isStructured && (type === command.read || type === command.blockStatus);
  if (needsChunks)
    writeChunk(socket, request, payload ?? { type: CHUNK_ERROR, head: errorHead(errno), data: EMPTY });
  else writeSimple(socket, request, errno, payload);
  socket.uncork();
}

interface Payload {
  readonly type: number;
  /** What only a chunk has before the data. */
  readonly head: Buffer;
  readonly data: Buffer;
}
const EMPTY = Buffer.alloc(0);
/** NBD_REPLY_TYPE_ERROR */
const CHUNK_ERROR = CHUNK_ERROR_BIT | 1;
/** NBD_CMD_FLAG_REQ_ONE */
const ONE_EXTENT = 8;
/** More would only make the answer long; the client asks again from there. */
const MAX_EXTENTS = 4096;
/** NBD_STATE_HOLE | NBD_STATE_ZERO */
const STATE_HOLE = 3;

function writeChunk(socket: Socket, { cookie }: NbdRequest, { type, head, data }: Payload): void {
  const reply = Buffer.alloc(20);
  reply.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
  reply.writeUInt16BE(CHUNK_FLAG_DONE, 4);
  reply.writeUInt16BE(type, 6);
  cookie.copy(reply, 8);
  reply.writeUInt32BE(head.length + data.length, 16);
  socket.write(reply);
  if (head.length > 0) socket.write(head);
  if (data.length > 0) socket.write(data);
}

function writeSimple(socket: Socket, { cookie }: NbdRequest, errno: number, payload: Payload | null): void {
  const reply = Buffer.alloc(16);
  reply.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
  reply.writeUInt32BE(errno, 4);
  cookie.copy(reply, 8);
  socket.write(reply);
  if (payload !== null) socket.write(payload.data);
}

function offsetHead(offset: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeBigUInt64BE(BigInt(offset));
  return head;
}

/** The number, and a text of no length. */
function errorHead(errno: number): Buffer {
  const head = Buffer.alloc(6);
  head.writeUInt32BE(errno);
  return head;
}

function statusOf(disk: ServedDisk, { offset, length, flags }: NbdRequest): Buffer {
  const extents: number[] = [];
  for (const extent of disk.extents?.(offset, length) ?? []) {
    const state = extent.isZero ? STATE_HOLE : 0;
    const last = extents.length - 2;
    if (last >= 0 && extents[last + 1] === state) extents[last] = (extents[last] ?? 0) + extent.length;
    else if (last >= 0 && ((flags & ONE_EXTENT) !== 0 || extents.length >= MAX_EXTENTS * 2)) break;
    else extents.push(extent.length, state);
  }
  const body = Buffer.alloc(4 + extents.length * 4);
  body.writeUInt32BE(ALLOCATION_ID);
  for (const [index, value] of extents.entries()) body.writeUInt32BE(value, 4 + index * 4);
  return body;
}
