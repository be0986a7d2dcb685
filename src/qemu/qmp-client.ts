import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { SendenseError } from '../base/sendense-error.ts';

interface QmpMessage {
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly id?: number;
}

/** All our commands begin something or are done at once; a daemon that does not answer must hold up nobody for ever. */
const ANSWER_TIMEOUT_MS = 120_000;

/**
 * Who connects in the moment in which QEMU hands its monitor to another thread is never greeted (one start in some
 * hundreds, QEMU 7.2). A new connection is.
 */
const GREETING_TIMEOUT_MS = 3_000;
/** A machine under load may need longer than one of them for its first word. */
const GREETING_TRIES = 20;

interface PendingCommand {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** One connection to a QEMU monitor: newline-separated JSON, as docs/interop/qmp-spec. */
export class QmpClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #pending = new Map<number, PendingCommand>();
  readonly #waiters = new Set<(event: string, data: Readonly<Record<string, unknown>>) => void>();
  #nextId = 1;
  #rest = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => this.#receive(chunk));
    socket.on('error', () => undefined); // 'close' follows and rejects what waits
    socket.on('close', () => this.#failAll());
  }

  /**
   * Connects and leaves the negotiation mode.
   * @throws QMP_FAILED, or the error of the socket
   */
  static async connect(socketPath: string): Promise<QmpClient> {
    for (let tries = 1; ; tries += 1) {
      const socket = connect({ path: socketPath });
      await once(socket, 'connect');
      const client = new QmpClient(socket);
      let isLate = false;
      const timer = setTimeout(() => {
        isLate = true;
        socket.destroy();
      }, GREETING_TIMEOUT_MS);
      try {
        await client.execute('qmp_capabilities');
        return client;
      } catch (error) {
        socket.destroy();
        if (!isLate || tries === GREETING_TRIES) throw error;
      } finally {
        clearTimeout(timer);
      }
    }
  }

  /** @throws QMP_FAILED with QEMU's own words, or when it does not answer */
  execute(command: string, args: object = {}): Promise<unknown> {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      const late = () => {
        this.#pending.delete(id);
        const detail = `no answer within ${ANSWER_TIMEOUT_MS / 1000} s`;
        reject(new SendenseError('QMP_FAILED', { command, detail }));
      };
      const timer = setTimeout(late, ANSWER_TIMEOUT_MS);
      timer.unref();
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          settle(value);
        };
      this.#pending.set(id, { command, resolve: settled(resolve), reject: settled(reject) });
      if (this.#socket.destroyed) this.#failAll();
      else this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** Resolves when the event arrives; register before the command that causes it, the event may come first. */
  waitForEvent(name: string, field: string, value: string, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (error?: Error) => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        if (error) reject(error);
        else resolve();
      };
      const waiter = (event: string, data: Readonly<Record<string, unknown>>) => {
        if (event === name && data[field] === value) finish();
        if (event === '') finish(gone(name));
      };
      const timer = setTimeout(
        () => finish(new SendenseError('QMP_FAILED', { command: name, detail: 'no event in time' })),
        timeoutMs,
      );
      this.#waiters.add(waiter);
    });
  }

  /** Tells every event; `''` when the connection ends. @returns ends it */
  onEvent(listener: (event: string, data: Readonly<Record<string, unknown>>) => void): () => void {
    this.#waiters.add(listener);
    return () => this.#waiters.delete(listener);
  }

  #receive(chunk: string): void {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') this.#dispatch(JSON.parse(line) as QmpMessage);
  }

  #dispatch(message: QmpMessage): void {
    if (message.event !== undefined) {
      for (const waiter of this.#waiters) waiter(message.event, message.data ?? {});
      return;
    }
    if (message.id === undefined) return; // the greeting
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (!pending) return;
    if (message.error)
      pending.reject(
        new SendenseError('QMP_FAILED', { command: pending.command, detail: message.error.desc }),
      );
    else pending.resolve(message.return);
  }

  #failAll(): void {
    for (const pending of this.#pending.values()) pending.reject(gone(pending.command));
    this.#pending.clear();
    for (const waiter of this.#waiters) waiter('', {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }
}

const gone = (command: string) => new SendenseError('QMP_FAILED', { command, detail: 'the daemon is gone' });
