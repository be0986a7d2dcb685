import { connect, type Socket } from 'node:net';
import { isErrorCode, messageOf, SendenseError } from '../base/sendense-error.ts';
import { answerMessage } from './messages.ts';
import type { PrivilegedWork, WorkName } from './privileged-work.ts';

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: SendenseError) => void;
}

/** The privileged work, asked of a mountd. A lost connection fails what was under way; the next request connects anew. */
export class MountdClient implements PrivilegedWork {
  readonly #socketFile: string;
  readonly #waiting = new Map<number, Waiting>();
  #socket: Promise<Socket> | null = null;
  #lastId = 0;

  constructor(socketFile: string) {
    this.#socketFile = socketFile;
  }

  attachLoop: PrivilegedWork['attachLoop'] = (...args) => this.#ask('attachLoop', args);
  detachLoop: PrivilegedWork['detachLoop'] = (...args) => this.#ask('detachLoop', args);
  connectNbd: PrivilegedWork['connectNbd'] = (...args) => this.#ask('connectNbd', args);
  disconnectNbd: PrivilegedWork['disconnectNbd'] = (...args) => this.#ask('disconnectNbd', args);
  mount: PrivilegedWork['mount'] = (...args) => this.#ask('mount', args);
  makePlace: PrivilegedWork['makePlace'] = (...args) => this.#ask('makePlace', args);
  clearPlace: PrivilegedWork['clearPlace'] = (...args) => this.#ask('clearPlace', args);
  expose: PrivilegedWork['expose'] = (...args) => this.#ask('expose', args);
  unexpose: PrivilegedWork['unexpose'] = (...args) => this.#ask('unexpose', args);
  sweep: PrivilegedWork['sweep'] = (...args) => this.#ask('sweep', args);

  /** @throws MOUNTD_UNREACHABLE, and what the work fails with */
  async #ask<T>(work: WorkName, args: readonly unknown[]): Promise<T> {
    this.#socket ??= this.#connect();
    const socket = await this.#socket;
    this.#lastId += 1;
    const id = this.#lastId;
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    socket.ref();
    socket.write(`${JSON.stringify({ id, work, args })}\n`);
    // our own program answers with what the interface says
    try {
      return (await answer) as T;
    } finally {
      if (this.#waiting.size === 0) socket.unref();
    }
  }

  async #connect(): Promise<Socket> {
    const socket = connect(this.#socketFile);
    let rest = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.#take(line);
    });
    try {
      await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    } catch (error) {
      this.#socket = null;
      throw this.#unreachable(messageOf(error), error);
    }
    socket.on('error', () => undefined);
    // an idle connection keeps nobody from ending
    socket.unref();
    socket.on('close', () => {
      this.#socket = null;
      const waiting = [...this.#waiting.values()];
      this.#waiting.clear();
      for (const { reject } of waiting) reject(this.#unreachable('it closed the connection'));
    });
    return socket;
  }

  #take(line: string): void {
    const answer = answerMessage.parse(JSON.parse(line));
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ('result' in answer) waiting?.resolve(answer.result);
    else {
      const { code, fields } = answer.error;
      waiting?.reject(
        isErrorCode(code) ? new SendenseError(code, fields) : new SendenseError('INTERNAL', { detail: code }),
      );
    }
  }

  #unreachable(detail: string, cause?: unknown): SendenseError {
    return new SendenseError('MOUNTD_UNREACHABLE', { socket: this.#socketFile, detail }, cause);
  }
}
