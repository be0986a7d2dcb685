import type { Socket } from 'node:net';
import { SendenseError } from '../../base/sendense-error.ts';
import type { NbdTls } from './endpoint.ts';
import {
  CLIENT_FLAGS,
  infoType,
  NBD_MAGIC,
  NbdConnectionLost,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  option,
  optionReply,
} from './protocol.ts';
import { startTls } from './start-tls.ts';

export interface HandshakeResult {
  /** The connection from now on: the one that was given, or TLS over it. */
  readonly socket: Socket;
  readonly sizeBytes: number;
  readonly transmissionFlags: number;
  readonly structuredReplies: boolean;
  /** Whether the server has the context for block status that was wanted. */
  readonly hasContext: boolean;
  /** Bytes that came after the handshake already. */
  readonly rest: Buffer;
}

/** No honest option reply is longer. */
const MAX_OPTION_REPLY_BYTES = 64 * 1024;

/** Reads exact byte counts while the protocol is still a conversation. */
class HandshakeReader {
  #buffer = Buffer.alloc(0);
  #wanted = 0;
  #resolve: ((bytes: Buffer) => void) | null = null;
  #reject: ((error: Error) => void) | null = null;
  #failure: Error | null = null;
  readonly #socket: Socket;
  readonly #onData = (chunk: Buffer) => {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    this.#deliver();
  };
  readonly #onClose = () => this.#fail(new NbdConnectionLost('the server closed the connection'));
  readonly #onError = (error: Error) => this.#fail(new NbdConnectionLost(error.message));

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', this.#onData).on('close', this.#onClose).on('error', this.#onError);
  }

  read(length: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#wanted = length;
      this.#resolve = resolve;
      this.#reject = reject;
      if (this.#failure) reject(this.#failure);
      else this.#deliver();
    });
  }

  /** Stops listening; returns what came too early. */
  release(): Buffer {
    this.#socket.off('data', this.#onData).off('close', this.#onClose).off('error', this.#onError);
    return this.#buffer;
  }

  #deliver(): void {
    if (!this.#resolve || this.#buffer.length < this.#wanted) return;
    const bytes = this.#buffer.subarray(0, this.#wanted);
    this.#buffer = this.#buffer.subarray(this.#wanted);
    const resolve = this.#resolve;
    this.#resolve = null;
    resolve(bytes);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#resolve = null;
    this.#reject?.(this.#failure);
  }
}

function optionRequest(code: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(OPTION_MAGIC, 0);
  header.writeUInt32BE(code, 8);
  header.writeUInt32BE(payload.length, 12);
  return Buffer.concat([header, payload]);
}

function lengthPrefixed(text: string): Buffer {
  const name = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  return Buffer.concat([length, name]);
}

/**
 * Fixed-newstyle negotiation up to the transmission phase.
 * @param tls nothing but STARTTLS is said before it; a server without it is refused
 * @param context also negotiate structured replies and this one, for block status; null: none
 * @throws NbdConnectionLost when it breaks, EXPORT_FAILED when the server refuses the export
 */
export async function handshake(
  plain: Socket,
  exportName: string,
  { tls, context }: { readonly tls: NbdTls | null; readonly context: string | null },
): Promise<HandshakeResult> {
  let socket = plain;
  let reader = new HandshakeReader(socket);
  const refuse = (detail: string) => new SendenseError('EXPORT_FAILED', { export: exportName, detail });
  const exchange = async (
    code: number,
    payload: Buffer,
    onReply: (type: number, body: Buffer) => void,
  ): Promise<boolean> => {
    socket.write(optionRequest(code, payload));
    for (;;) {
      const head = await reader.read(20);
      if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) throw refuse('bad magic in an option reply');
      const type = head.readUInt32BE(12);
      const length = head.readUInt32BE(16);
      if (length > MAX_OPTION_REPLY_BYTES) throw refuse('an option reply is too long');
      const body = await reader.read(length);
      if (type === optionReply.ack) return true;
      if (type >>> 31 === 1) return false;
      onReply(type, body);
    }
  };

  const greeting = await reader.read(18);
  if (greeting.readBigUInt64BE(0) !== NBD_MAGIC || greeting.readBigUInt64BE(8) !== OPTION_MAGIC)
    throw refuse('this is no newstyle NBD server');
  const flags = Buffer.alloc(4);
  flags.writeUInt32BE(CLIENT_FLAGS);
  socket.write(flags);
  if (tls !== null) {
    if (!(await exchange(option.startTls, Buffer.alloc(0), () => undefined)))
      throw refuse('the server has no TLS');
    // what came before the encryption could be anybody's
    if (reader.release().length > 0) throw refuse('the server spoke before TLS was there');
    socket = await startTls(plain, tls);
    reader = new HandshakeReader(socket);
  }

  let hasContext = false;
  let structuredReplies = false;
  if (context !== null) {
    structuredReplies = await exchange(option.structuredReply, Buffer.alloc(0), () => undefined);
    if (structuredReplies) {
      const count = Buffer.alloc(4);
      count.writeUInt32BE(1);
      const payload = Buffer.concat([lengthPrefixed(exportName), count, lengthPrefixed(context)]);
      await exchange(option.setMetaContext, payload, (type, body) => {
        if (type === optionReply.metaContext && body.toString('utf8', 4) === context) hasContext = true;
      });
    }
  }

  let sizeBytes = -1;
  let transmissionFlags = 0;
  const accepted = await exchange(
    option.go,
    Buffer.concat([lengthPrefixed(exportName), Buffer.alloc(2)]),
    (type, body) => {
      if (type !== optionReply.info || body.readUInt16BE(0) !== infoType.export) return;
      const size = body.readBigUInt64BE(2);
      // nbd-server says -1 for what has no size, such as /dev/null
      if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`it claims ${size} bytes`);
      sizeBytes = Number(size);
      transmissionFlags = body.readUInt16BE(10);
    },
  );
  if (!accepted || sizeBytes < 0) throw refuse('the server does not know or does not give this export');
  return {
    socket,
    ...{ sizeBytes, transmissionFlags, structuredReplies, hasContext },
    rest: reader.release(),
  };
}
