import { type AddressInfo, isIPv6 } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { z } from 'zod';
import type { Logger } from '../../base/logger.ts';
import { parseInput } from '../../base/parse-input.ts';
import { messageOf, SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import type { Agent, AgentQueries } from '../../catalog/agents.ts';
import type { Authority } from '../identity/authority.ts';
import { controlService, enrolmentService, MAX_MESSAGE_BYTES } from '../protocol/load-proto.ts';
import { errorMetadata } from '../protocol/status.ts';
import type { AgentHub } from './agent-hub.ts';
import type { AgentStream } from './agent-link.ts';
import type { EnrolmentDesk } from './enrolment-desk.ts';
import { Peers } from './peers.ts';

/** Who has not finished TLS by then never will. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Connections at once, those of strangers included. */
const MAX_CONNECTIONS = 256;

interface ListenerDeps {
  readonly agents: AgentQueries;
  readonly authority: Authority;
  readonly desk: EnrolmentDesk;
  readonly hub: AgentHub;
  readonly logger: Logger;
  /** Row files of the layers below a transfer of this agent. @throws AGENT_REFUSED */
  readonly parentRows: (
    transferId: string,
    agentId: string,
  ) => AsyncIterable<{ file: number; bytes: Buffer }>;
}

/** Where agents connect. */
export interface AgentListener {
  readonly port: number;
  /** Ends every connection of an agent at once. */
  cut(agent: Agent): void;
  close(): Promise<void>;
}

const text = (max: number) => z.string().max(max);
const enrolRequest = z.object({
  ...{ secret: text(64), certificateRequest: text(4096), sshPublicKey: text(200) },
  ...{ name: text(64), hostName: text(256), version: text(64) },
});
const resultRequest = z.object({ enrolmentId: text(64), resultToken: text(64) });
const renewRequest = z.object({ certificateRequest: text(4096) });
const rowsRequest = z.object({ transferId: text(128) });

const parsed = <T>(schema: z.ZodType<T>, value: unknown): T =>
  parseInput(schema, value, 'the message', (detail) => new SendenseError('REQUEST_INVALID', { detail }));

/** @param address `host:port`; port 0 takes any free one. @throws TOOL_FAILED when it cannot listen there */
export async function listenForAgents(address: string, deps: ListenerDeps): Promise<AgentListener> {
  const { authority, desk, hub, logger } = deps;
  const peers = new Peers(deps.agents);
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': 16,
  });
  const failed = (error: unknown): Partial<StatusObject> => {
    const failure = toSendenseError(error);
    if (failure.code === 'INTERNAL')
      logger.error({ err: failure.cause ?? failure }, 'a call of an agent failed');
    return { code: status.FAILED_PRECONDITION, details: failure.message, metadata: errorMetadata(failure) };
  };
  const unary =
    (handle: (request: unknown, peer: string) => Promise<object>) =>
    (call: ServerUnaryCall<unknown, unknown>, answer: sendUnaryData<unknown>) => {
      handle(call.request, call.getPeer()).then(
        (reply) => answer(null, reply),
        (error: unknown) => answer(failed(error)),
      );
    };
  server.addService(enrolmentService, {
    Enrol: unary(async (request, peer) => ({
      ...(await desk.enrol(parsed(enrolRequest, request), peer.replace(/:\d+$/, ''))),
      authority: authority.certificate,
    })),
    Result: unary(async (request) => {
      const { enrolmentId, resultToken } = parsed(resultRequest, request);
      return { ...(await desk.result(enrolmentId, resultToken)), authority: authority.certificate };
    }),
  });
  server.addService(controlService, {
    Connect: (stream: AgentStream) => {
      try {
        hub.serve(peers.identify(stream.getPeer()), stream);
      } catch (error) {
        const { code, fields } = toSendenseError(error);
        stream.on('error', () => undefined);
        stream.write({ message: 'refused', refused: { code, fields: JSON.stringify(fields) } });
        stream.end();
      }
    },
    Renew: unary(async (request, peer) => ({
      certificate: await desk.renew(peers.identify(peer), parsed(renewRequest, request).certificateRequest),
    })),
    ParentRows: (stream: ServerWritableStream<unknown, unknown>) => {
      sendRows(stream, () => {
        const agent = peers.identify(stream.getPeer());
        return deps.parentRows(parsed(rowsRequest, stream.request).transferId, agent.agentId);
      }).catch((error: unknown) => stream.emit('error', failed(error)));
    },
  });

  // TLS ends here and not in gRPC: strangers may enrol, and a certificate is judged by the catalogue
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const sockets = createServer({
    ...{ key: authority.appliance.key, ca: [authority.certificate] },
    cert: `${authority.appliance.certificate}\n${authority.certificate}`,
    ...{ requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.3', ALPNProtocols: ['h2'] },
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
  });
  sockets.maxConnections = MAX_CONNECTIONS;
  sockets.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => undefined);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 15_000);
    if (socket.alpnProtocol !== 'h2') return void socket.destroy();
    peers.add(socket);
    injector.injectConnection(socket);
  });
  sockets.on('tlsClientError', () => undefined); // port scanners are no news
  const port = await listen(sockets, address);
  logger.info({ address, port }, 'agents can connect');
  return {
    port,
    cut: (agent) => peers.cut(agent),
    close: async () => {
      sockets.close();
      peers.cutAll();
      injector.destroy();
      server.forceShutdown();
    },
  };
}

async function listen(sockets: ReturnType<typeof createServer>, address: string): Promise<number> {
  const cut = address.lastIndexOf(':');
  const host = address.slice(0, cut).replace(/^\[|\]$/g, '');
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error) =>
      reject(new SendenseError('CONFIG_INVALID', { detail: `agents.listen: ${messageOf(error)}` }, error));
    sockets.once('error', fail);
    sockets.listen(
      { host, port: Number(address.slice(cut + 1)), ipv6Only: isIPv6(host) && host !== '::' },
      () => {
        sockets.off('error', fail);
        resolve();
      },
    );
  });
  return (sockets.address() as AddressInfo).port;
}

async function sendRows(
  stream: ServerWritableStream<unknown, unknown>,
  open: () => AsyncIterable<{ file: number; bytes: Buffer }>,
): Promise<void> {
  for await (const chunk of open()) {
    if (stream.cancelled) return;
    // a cut stream drains never
    if (!stream.write(chunk))
      await new Promise<void>((resolve) => {
        stream.once('drain', resolve).once('close', resolve).once('cancelled', resolve);
      });
  }
  stream.end();
}
