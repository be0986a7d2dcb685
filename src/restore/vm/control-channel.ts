import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type FoundFilesystem, vmMessage } from './found-filesystem.ts';

/** Longest line and most things that a VM may report: beyond that it is not ours that speaks. */
const MAX_LINE_BYTES = 64 * 1024;
const MAX_FOUND = 10_000;

/**
 * The line to the init of a VM. As long as it is open the VM runs; when it closes, also because we were killed, the
 * VM switches itself off.
 */
export class ControlChannel {
  readonly found: FoundFilesystem[] = [];
  /** Resolves when the VM has found everything; rejects when it goes away or talks nonsense. */
  readonly ready: Promise<void>;
  readonly #socket: Socket;
  #settle: { resolve: () => void; reject: (error: Error) => void } | null = null;
  #rest = Buffer.alloc(0);
  #lastNewsAt = performance.now();
  #lastFoundAt = performance.now();
  #isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.ready = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.ready.catch(() => undefined);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => this.#end(new Error('it switched itself off')));
  }

  /** Connects to a socket of QEMU's. */
  static async connect(socketPath: string): Promise<ControlChannel> {
    const socket = connect({ path: socketPath });
    await once(socket, 'connect');
    return new ControlChannel(socket);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Milliseconds since the VM was last heard of. */
  get silenceMs(): number {
    return performance.now() - this.#lastNewsAt;
  }

  /** Milliseconds since the VM last told of something that it found, or began. */
  get sinceFoundMs(): number {
    return performance.now() - this.#lastFoundAt;
  }

  /** Hands over the secrets and lets the VM begin. */
  begin(passphrases: readonly string[]): void {
    const lines = passphrases.map((text) => `passphrase ${Buffer.from(text).toString('base64')}\n`);
    this.#socket.write(`${lines.join('')}go\n`);
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    this.#lastNewsAt = performance.now();
    let rest = Buffer.concat([this.#rest, chunk]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = rest.subarray(0, end).toString('utf8');
      rest = rest.subarray(end + 1);
      if (this.#take(line)) continue;
      this.#refuse('it sent what is no message of it');
      return;
    }
    this.#rest = rest;
    if (rest.length > MAX_LINE_BYTES || this.found.length > MAX_FOUND) this.#refuse('it sends too much');
  }

  /** False: not a message. */
  #take(line: string): boolean {
    const message = vmMessage.safeParse(parsed(line));
    if (!message.success) return false;
    if (message.data.type === 'filesystem') {
      const { key } = message.data;
      if (this.found.some((other) => other.key === key)) return false;
      this.found.push(message.data);
      this.#lastFoundAt = performance.now();
    }
    if (message.data.type === 'ready') this.#settle?.resolve();
    return true;
  }

  #refuse(reason: string): void {
    this.#end(new Error(reason));
    this.#socket.destroy();
  }

  #end(error: Error): void {
    this.#isClosed = true;
    this.#settle?.reject(error);
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
