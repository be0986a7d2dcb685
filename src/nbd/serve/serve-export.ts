import { createServer, type Socket } from 'node:net';
import { NBD_MAGIC, OPTION_MAGIC } from '../client/protocol.ts';
import { chooseExport } from './negotiate.ts';
import { RequestReader } from './request-reader.ts';
import { serveReads } from './serve-reads.ts';
import type { ServedDisk } from './served-disk.ts';

/** FIXED_NEWSTYLE | NO_ZEROES */
const SERVER_FLAGS = 0x3;

/**
 * Serves disks read-only as NBD exports on a unix socket, to any number of clients.
 * @returns ends all of them
 */
export async function serveExports(
  socketPath: string,
  disks: readonly ServedDisk[],
): Promise<() => Promise<void>> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // a client that goes away or talks nonsense ends only its own conversation
    socket.on('error', () => undefined);
    void converse(socket, disks).finally(() => socket.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, resolve);
  });
  return async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
}

async function converse(socket: Socket, disks: readonly ServedDisk[]): Promise<void> {
  const greeting = Buffer.alloc(18);
  greeting.writeBigUInt64BE(NBD_MAGIC, 0);
  greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
  greeting.writeUInt16BE(SERVER_FLAGS, 16);
  socket.write(greeting);
  const reader = new RequestReader(socket);
  const clientFlags = await reader.read(4);
  if (clientFlags === null) return;
  const withoutZeroes = (clientFlags.readUInt32BE(0) & 2) !== 0;
  const chosen = await chooseExport(socket, reader, disks, withoutZeroes);
  if (chosen !== null) await serveReads(socket, reader, chosen);
}
