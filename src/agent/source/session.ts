import type { ClientDuplexStream, ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { z } from 'zod';
import { SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import { ControlClient } from '../protocol/load-proto.ts';
import {
  type FromAgent,
  packError,
  readToAgent,
  type ToAgent,
  unpackError,
  type Welcome,
} from '../protocol/messages.ts';
import { errorOf } from '../protocol/status.ts';
import type { Target } from './find-appliance.ts';

const HEARTBEAT_MS = 5_000;
/** Silence after which the appliance is taken for gone; it answers each heartbeat. */
const SILENCE_MS = 20_000;
const RENEW_TIMEOUT_MS = 15_000;

interface SessionDeps {
  readonly target: Target;
  readonly hello: Extract<FromAgent, { message: 'hello' }>['hello'];
  readonly onWelcome: (welcome: Welcome, send: (message: FromAgent) => void) => Promise<void>;
  readonly onRowsTaken: (transferId: string, until: number) => void;
  readonly onCall: (method: string, body: string) => Promise<object>;
  readonly signal: AbortSignal;
}

/** One control connection to the appliance. */
export class Session {
  readonly #client: InstanceType<typeof ControlClient>;
  readonly #deps: SessionDeps;

  constructor(deps: SessionDeps) {
    this.#deps = deps;
    this.#client = new ControlClient(deps.target.address, deps.target.credentials, deps.target.options);
  }

  /** Serves until the connection ends. @throws why it ended: APPLIANCE_UNREACHABLE, AGENT_REFUSED, AGENT_VERSION, CANCELLED */
  async run(): Promise<never> {
    const { hello, signal, target } = this.#deps;
    const stream = this.#client['Connect']?.() as ClientDuplexStream<FromAgent, unknown>;
    const { promise: ended, reject } = Promise.withResolvers<never>();
    const gone = (detail: string) =>
      reject(new SendenseError('APPLIANCE_UNREACHABLE', { address: target.address, detail }));
    const silence = setTimeout(() => gone('it does not answer'), SILENCE_MS);
    const send = (message: FromAgent) => void stream.write(message);
    const beat = setInterval(() => send({ message: 'heartbeat', heartbeat: {} }), HEARTBEAT_MS);
    const cancel = () => reject(new SendenseError('CANCELLED'));
    signal.addEventListener('abort', cancel, { once: true });
    stream.on('error', (error: ServiceError) => reject(errorOf(error, target.address)));
    stream.on('end', () => gone('it closed the connection'));
    stream.on('data', (raw: unknown) => {
      silence.refresh();
      try {
        this.#received(readToAgent(raw), send, reject);
      } catch (error) {
        reject(error);
      }
    });
    try {
      send({ message: 'hello', hello });
      return await ended;
    } finally {
      clearTimeout(silence);
      clearInterval(beat);
      signal.removeEventListener('abort', cancel);
      stream.on('error', () => undefined);
      stream.cancel();
      this.#client.close();
    }
  }

  #received(message: ToAgent, send: (message: FromAgent) => void, fail: (error: unknown) => void): void {
    const { onWelcome, onRowsTaken, onCall } = this.#deps;
    switch (message.message) {
      case 'welcome':
        onWelcome(message.welcome, send).catch(fail);
        break;
      case 'refused':
        throw unpackError(message.refused.code, message.refused.fields);
      case 'rowsTaken':
        onRowsTaken(message.rowsTaken.transferId, message.rowsTaken.until);
        break;
      case 'heartbeat':
        break;
      case 'call': {
        const { callId, method, body } = message.call;
        onCall(method, body).then(
          (answer) =>
            send({
              message: 'answer',
              answer: { callId, body: JSON.stringify(answer), errorCode: '', errorFields: '' },
            }),
          (error: unknown) =>
            send({ message: 'answer', answer: { callId, body: '', ...packError(toSendenseError(error)) } }),
        );
      }
    }
  }

  /** @returns a new certificate, PEM. @throws APPLIANCE_UNREACHABLE, AGENT_REFUSED */
  renew(certificateRequest: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#client['Renew']?.(
        { certificateRequest },
        { deadline: Date.now() + RENEW_TIMEOUT_MS },
        (error: ServiceError | null, reply: unknown) => {
          if (error) reject(errorOf(error, this.#deps.target.address));
          else resolve(z.object({ certificate: z.string() }).parse(reply).certificate);
        },
      );
    });
  }

  /** The row files of the layers below a transfer. @throws APPLIANCE_UNREACHABLE, AGENT_REFUSED */
  async *parentRows(transferId: string): AsyncGenerator<{ file: number; bytes: Buffer }> {
    const stream = this.#client['ParentRows']?.({ transferId }) as ClientReadableStream<unknown>;
    const chunk = z.object({ file: z.number(), bytes: z.instanceof(Buffer) });
    try {
      for await (const raw of stream) yield chunk.parse(raw);
    } catch (error) {
      throw error instanceof Error && 'code' in error && 'metadata' in error
        ? errorOf(error as ServiceError, this.#deps.target.address)
        : error;
    } finally {
      stream.destroy();
    }
  }
}
