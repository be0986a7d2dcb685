import type { ServerDuplexStream } from '@grpc/grpc-js';
import { parseInput } from '../../base/parse-input.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { Agent } from '../../catalog/agents.ts';
import { type AnswerTo, type Ask, calls, type Method } from '../protocol/calls.ts';
import { type AnswerMessage, type ToAgent, unpackError } from '../protocol/messages.ts';

/** An answer takes seconds at most; a snapshot may have to wait for a guest. */
const CALL_TIMEOUT_MS = 30_000;
const timeouts: Partial<Record<Method, number>> = { snapshot: 120_000, release: 120_000 };

export type AgentStream = ServerDuplexStream<unknown, unknown>;

interface Waiting {
  readonly method: Method;
  resolve(body: unknown): void;
  reject(error: SendenseError): void;
}

/** One connected agent. */
export class AgentLink {
  readonly agent: Agent;
  /** Ids of the transfers that it said to be going on when it came. */
  readonly transfers: ReadonlySet<string>;
  readonly connectedAt: Date;
  /** Milliseconds by which its clock is ahead of ours. */
  readonly clockSkewMs: number;
  /** Called once, when the connection ends. */
  onClosed: () => void = () => undefined;
  readonly #stream: AgentStream;
  readonly #waiting = new Map<number, Waiting>();
  #nextCall = 1;
  #closed: SendenseError | null = null;

  constructor(
    stream: AgentStream,
    about: {
      readonly agent: Agent;
      readonly transfers: readonly string[];
      readonly connectedAt: Date;
      readonly clockSkewMs: number;
    },
  ) {
    this.#stream = stream;
    this.agent = about.agent;
    this.transfers = new Set(about.transfers);
    this.connectedAt = about.connectedAt;
    this.clockSkewMs = about.clockSkewMs;
  }

  get isOpen(): boolean {
    return this.#closed === null;
  }

  send(message: ToAgent): void {
    if (this.#closed === null) this.#stream.write(message);
  }

  /**
   * Asks the agent and checks what it answers.
   * @throws what the agent failed with, AGENT_ANSWER_INVALID, AGENT_SILENT, AGENT_OFFLINE, CANCELLED
   */
  async call<M extends Method>(method: M, body: Ask<M>, signal?: AbortSignal): Promise<AnswerTo<M>> {
    if (this.#closed !== null) throw this.#closed;
    if (signal?.aborted) throw new SendenseError('CANCELLED');
    const callId = this.#nextCall;
    this.#nextCall += 1;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(callId, { method, resolve, reject });
    const timeoutMs = timeouts[method] ?? CALL_TIMEOUT_MS;
    const silent = () =>
      reject(
        new SendenseError('AGENT_SILENT', { agent: this.agent.name, method, seconds: timeoutMs / 1000 }),
      );
    const timer = setTimeout(silent, timeoutMs);
    const cancel = () => reject(new SendenseError('CANCELLED'));
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      this.send({ message: 'call', call: { callId, method, body: JSON.stringify(body) } });
      const answer = await promise;
      return parseInput(calls[method].answer as never, answer, `the answer to ${method}`, (detail) =>
        this.#invalid(detail),
      );
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      this.#waiting.delete(callId);
    }
  }

  /** An answer to nothing, as after a time limit, is passed over. */
  answered({ callId, body, errorCode, errorFields }: AnswerMessage): void {
    const waiting = this.#waiting.get(callId);
    if (!waiting) return;
    if (errorCode !== '') {
      waiting.reject(unpackError(errorCode, errorFields));
      return;
    }
    try {
      waiting.resolve(JSON.parse(body));
    } catch (error) {
      waiting.reject(this.#invalid(`the answer to ${waiting.method} is no JSON: ${messageOf(error)}`));
    }
  }

  /** Ends the connection. @param why for everybody who waits for an answer */
  close(why: SendenseError): void {
    if (this.#closed !== null) return;
    this.#closed = why;
    for (const waiting of this.#waiting.values()) waiting.reject(why);
    this.#waiting.clear();
    this.#stream.end();
    this.onClosed();
  }

  #invalid(detail: string): SendenseError {
    return new SendenseError('AGENT_ANSWER_INVALID', { agent: this.agent.name, detail });
  }
}
