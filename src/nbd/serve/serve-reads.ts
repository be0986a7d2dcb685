import type { Socket } from 'node:net';
import { command, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC } from '../client/protocol.ts';
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
  readonly type: number;
  readonly cookie: Buffer;
  readonly offset: number;
  readonly length: number;
}

/** Answers reads until the client says goodbye or goes away. */
export async function serveReads(socket: Socket, reader: RequestReader, disk: ServedDisk): Promise<void> {
  let inFlight = 0;
  let wake = () => {};
  for (;;) {
    const request = await nextRequest(reader);
    if (request === null || request.type === command.disconnect) break;
    inFlight += 1;
    void answer(socket, disk, request).finally(() => {
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
    type: head.readUInt16BE(6),
    cookie: head.subarray(8, 16),
    offset: Number(head.readBigUInt64BE(16)),
    length: head.readUInt32BE(24),
  };
}

async function answer(socket: Socket, disk: ServedDisk, request: NbdRequest): Promise<void> {
  const { type, offset, length } = request;
  let data: Buffer | null = null;
  let errno = 0;
  if (writing.includes(type)) errno = EPERM;
  else if (type === command.read) {
    if (length > MAX_READ_BYTES || offset + length > disk.sizeBytes) errno = EINVAL;
    else {
      data = Buffer.allocUnsafe(length);
      await disk.read(offset, data).catch(() => {
        data = null;
        errno = EIO;
      });
    }
  } else if (type !== command.flush) errno = EINVAL;
  if (socket.destroyed) return;
  const reply = Buffer.alloc(16);
  reply.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
  reply.writeUInt32BE(errno, 4);
  request.cookie.copy(reply, 8);
  socket.cork();
  socket.write(reply);
  if (data !== null) socket.write(data);
  socket.uncork();
}
