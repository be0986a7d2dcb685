import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** How often the agent is asked until it answers. */
const ASK_MS = 1_000;
/** More than this without a line is not the talk of an agent. */
const MAX_PENDING = 64 * 1024;

/**
 * Asks for the guest agent until it answers: first with `guest-sync`, whose number shows that the answer is to this
 * question, then with `guest-ping` (QEMU's "Guest Agent Protocol").
 */
export class GuestAgent implements Disposable {
  readonly #socket: Socket;
  readonly #onAnswer: () => void;
  #timer: NodeJS.Timeout | null = null;
  #pending = '';
  #number = 0;
  #isSynced = false;
  #hasAnswered = false;

  private constructor(socket: Socket, onAnswer: () => void) {
    this.#socket = socket;
    this.#onAnswer = onAnswer;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    // it ends with the machine, whose end is noticed elsewhere
    socket.on('error', () => undefined);
  }

  static async connect(path: string, onAnswer: () => void): Promise<GuestAgent> {
    const socket = connect({ path });
    await once(socket, 'connect');
    return new GuestAgent(socket, onAnswer);
  }

  /** To be called when the guest opens its end; before that every question would be kept for it. */
  begin(): void {
    this.#timer ??= setInterval(() => this.#ask(), ASK_MS);
    this.#ask();
  }

  #ask(): void {
    if (this.#hasAnswered || this.#socket.destroyed) return;
    this.#number += 1;
    this.#send({ execute: 'guest-sync', arguments: { id: this.#number } });
  }

  #receive(text: string): void {
    const lines = (this.#pending + text).split('\n');
    this.#pending = (lines.pop() ?? '').slice(-MAX_PENDING);
    for (const line of lines) this.#answer(line);
  }

  #answer(line: string): void {
    let value: unknown;
    try {
      // an agent that was asked to resynchronise says 0xFF first
      value = (JSON.parse(line.replace(/^[^{]*/, '')) as { return?: unknown }).return;
    } catch {
      return;
    }
    if (!this.#isSynced && typeof value === 'number' && value > 0 && value <= this.#number) {
      this.#isSynced = true;
      this.#send({ execute: 'guest-ping' });
    } else if (this.#isSynced && typeof value === 'object' && value !== null && !this.#hasAnswered) {
      this.#hasAnswered = true;
      this.#onAnswer();
    }
  }

  #send(command: object): void {
    this.#socket.write(`${JSON.stringify(command)}\n`);
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#socket.destroy();
  }
}
