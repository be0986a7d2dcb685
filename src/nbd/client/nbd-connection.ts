import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { connectDirect, type DirectSocket } from './direct-socket.ts';
import type { NbdEndpoint } from './endpoint.ts';
import { type HandshakeResult, handshake } from './handshake.ts';
import {
  BASE_ALLOCATION,
  command,
  NbdConnectionLost,
  NbdReplyError,
  REQUEST_MAGIC,
  STATE_ZERO,
  transmissionFlag,
} from './protocol.ts';
import { ReplyParser, type ReplyTarget } from './reply-parser.ts';

export type { NbdEndpoint } from './endpoint.ts';

interface ConnectOptions {
  readonly wantAllocation?: boolean;
  /** Another context for block status than the allocation, such as `qemu:dirty-bitmap:NAME`. */
  readonly statusContext?: string;
  /** For the connection and the handshake together. */
  readonly timeoutMs?: number;
  /** A server that is silent for so long with requests under way is given up. */
  readonly idleTimeoutMs?: number;
}

const CONNECT_TIMEOUT_MS = 10_000;
const BACKLOG_DELAY_MS = 10;

interface PendingRequest extends ReplyTarget {
  readonly what: string;
  reject(error: Error): void;
}

export interface StatusExtent {
  readonly length: number;
  /** Reads as zeros. */
  readonly zero: boolean;
}

/** One client connection in the transmission phase. Requests may be in flight in any number. */
export class NbdConnection implements AsyncDisposable {
  readonly sizeBytes: number;
  /** The server has the context that was asked for; without it, block status must not be asked. */
  readonly canReportStatus: boolean;
  readonly #socket: Socket;
  readonly #flags: number;
  readonly #pending = new Map<number, PendingRequest>();
  readonly #parser: ReplyParser;
  #nextCookie = 1;
  #lost: NbdConnectionLost | null = null;

  private constructor(negotiated: HandshakeResult, direct: DirectSocket | null, idleTimeoutMs: number) {
    const { socket } = negotiated;
    this.#socket = socket;
    this.sizeBytes = negotiated.sizeBytes;
    this.#flags = negotiated.transmissionFlags;
    this.canReportStatus = negotiated.hasContext;
    this.#parser = new ReplyParser(
      (cookie) => this.#pending.get(cookie),
      (cookie) => this.#pending.delete(cookie),
    );
    if (direct)
      direct.handOver({
        room: () => this.#parser.room(),
        filled: (count) => this.#receive(() => this.#parser.filled(count)),
        feed: (bytes) => this.#receive(() => this.#parser.feed(bytes)),
      });
    else socket.on('data', (bytes: Buffer) => this.#receive(() => this.#parser.feed(bytes)));
    socket.on('error', (error) => this.#lose(error.message));
    socket.on('close', () => this.#lose('the server closed the connection'));
    socket.setTimeout(idleTimeoutMs, () => {
      if (this.#pending.size > 0) socket.destroy(new Error(`no answer for ${idleTimeoutMs / 1000} s`));
    });
    if (negotiated.rest.length > 0) this.#receive(() => this.#parser.feed(negotiated.rest));
  }

  /** @throws NbdConnectionLost, EXPORT_FAILED */
  static async connect(endpoint: NbdEndpoint, options: ConnectOptions = {}): Promise<NbdConnection> {
    const deadline = Date.now() + (options.timeoutMs ?? CONNECT_TIMEOUT_MS);
    for (;;) {
      try {
        return await NbdConnection.#connectOnce(endpoint, options);
      } catch (error) {
        // nbd-server's backlog holds ten; a full one is no refusal
        const isFull = error instanceof NbdConnectionLost && error.message.includes('EAGAIN');
        if (!isFull || Date.now() > deadline) throw error;
        await sleep(BACKLOG_DELAY_MS);
      }
    }
  }

  static async #connectOnce(endpoint: NbdEndpoint, options: ConnectOptions): Promise<NbdConnection> {
    const target =
      endpoint.socketPath === undefined
        ? { host: endpoint.host, port: endpoint.port, noDelay: true, keepAlive: true }
        : { path: endpoint.socketPath };
    const direct = endpoint.tls ? null : connectDirect(target);
    const socket = direct?.socket ?? connect(target);
    const timeoutMs = options.timeoutMs ?? CONNECT_TIMEOUT_MS;
    const timer = setTimeout(
      () => socket.destroy(new Error(`no handshake within ${timeoutMs} ms`)),
      timeoutMs,
    );
    try {
      // errors of the connection itself reach the handshake's first read
      const negotiated = await handshake(socket, endpoint.exportName, {
        tls: endpoint.tls ?? null,
        context: options.statusContext ?? (options.wantAllocation ? BASE_ALLOCATION : null),
      });
      return new NbdConnection(negotiated, direct, options.idleTimeoutMs ?? 120_000);
    } catch (error) {
      socket.on('error', () => undefined);
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  get isReadOnly(): boolean {
    return (this.#flags & transmissionFlag.readOnly) !== 0;
  }

  get canWriteZeroes(): boolean {
    return (this.#flags & transmissionFlag.writeZeroes) !== 0;
  }

  /** Fills the whole buffer from `offset`. @throws NbdReplyError, NbdConnectionLost */
  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#request('read', command.read, offset, into.length, { into }).then(() => undefined);
  }

  /** The buffer must not change until the promise settles. */
  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#request('write', command.write, offset, data.length, { payload: data }).then(
      () => undefined,
    );
  }

  /** Makes a range read as zeros. Never for nbd-server: above 64 MiB it zeroes only the first part. */
  writeZeroes(offset: number, length: number): Promise<void> {
    return this.#request('write zeroes', command.writeZeroes, offset, length, {}).then(() => undefined);
  }

  /** Makes everything that was answered before durable, on all connections of this export. */
  flush(): Promise<void> {
    if ((this.#flags & transmissionFlag.flush) === 0) {
      return Promise.reject(
        new SendenseError('NBD_PROTOCOL', { endpoint: 'the export', detail: 'it offers no flush' }),
      );
    }
    return this.#request('flush', command.flush, 0, 0, {}).then(() => undefined);
  }

  /** Allocation from `offset` on; the server may answer for less than `length`. */
  async blockStatus(offset: number, length: number): Promise<StatusExtent[]> {
    const extents = await this.statusFlags(offset, length);
    return extents.map(({ length: long, flags }) => ({ length: long, zero: (flags & STATE_ZERO) !== 0 }));
  }

  /** The same with the bits of whatever context was asked for. */
  async statusFlags(offset: number, length: number): Promise<{ length: number; flags: number }[]> {
    const body = (await this.#request('block status', command.blockStatus, offset, length, {})).statusBody;
    const extents: { length: number; flags: number }[] = [];
    for (let position = 4; body && position + 8 <= body.length; position += 8)
      extents.push({ length: body.readUInt32BE(position), flags: body.readUInt32BE(position + 4) });
    // an extent of no length would be asked for again for ever
    if (extents.length === 0 || extents.some((extent) => extent.length === 0))
      throw new SendenseError('NBD_PROTOCOL', { endpoint: 'the export', detail: 'an empty block status' });
    return extents;
  }

  /** Says goodbye and closes; requests under way are lost. */
  async close(): Promise<void> {
    if (this.#lost || this.#socket.destroyed) return;
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    this.#socket.end(header(command.disconnect, 0, 0, 0));
    const timer = setTimeout(() => this.#socket.destroy(), 2_000);
    await closed;
    clearTimeout(timer);
  }

  /** Drops the connection without a word. */
  destroy(): void {
    this.#socket.destroy();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #request(
    what: string,
    type: number,
    offset: number,
    length: number,
    data: { into?: Uint8Array; payload?: Uint8Array },
  ): Promise<PendingRequest> {
    return new Promise((resolve, reject) => {
      if (this.#lost) {
        reject(this.#lost);
        return;
      }
      const cookie = this.#nextCookie;
      this.#nextCookie = (this.#nextCookie + 1) >>> 0;
      const pending: PendingRequest = {
        what,
        offset,
        into: data.into ?? null,
        filledBytes: 0,
        errno: 0,
        statusBody: null,
        complete: () => {
          if (pending.errno === 0) resolve(pending);
          else reject(new NbdReplyError(`${what} at ${offset}`, pending.errno));
        },
        reject,
      };
      this.#pending.set(cookie, pending);
      if (data.payload) {
        this.#socket.cork();
        this.#socket.write(header(type, cookie, offset, length));
        this.#socket.write(data.payload);
        this.#socket.uncork();
      } else this.#socket.write(header(type, cookie, offset, length));
    });
  }

  #receive(take: () => void): void {
    try {
      take();
    } catch (error) {
      this.#lose(messageOf(error));
      this.#socket.destroy();
    }
  }

  #lose(detail: string): void {
    this.#lost ??= new NbdConnectionLost(detail);
    for (const pending of this.#pending.values()) pending.reject(this.#lost);
    this.#pending.clear();
  }
}

function header(type: number, cookie: number, offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(28);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(0, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeUInt32BE(0, 8);
  bytes.writeUInt32BE(cookie, 12);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** What an export says of itself; proof that it can be reached. @throws as `connect` */
export async function probeExport(
  endpoint: NbdEndpoint,
  timeoutMs: number,
): Promise<{ sizeBytes: number; readOnly: boolean }> {
  await using connection = await NbdConnection.connect(endpoint, { timeoutMs });
  return { sizeBytes: connection.sizeBytes, readOnly: connection.isReadOnly };
}
