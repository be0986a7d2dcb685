import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { connect, type NetConnectOpts } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, kill } from '../../base/process/owned-processes.ts';
import { run } from '../../base/process/run.ts';
import { transferHeap } from '../../base/process/transfer-heap.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { nbdServerProcesses } from '../../nbd/exports/nbd-server-processes.ts';
import { nodeNames } from '../../nbd/exports/node-names.ts';
import { writableLayer } from '../../qemu/block-graph.ts';
import type { UndoStack } from '../../restore/mount/undo-stack.ts';
import { makeAuthority, newPrivateKey, publicKeyOf, signCertificate } from '../identity/certificates.ts';
import { writeSecretFile } from '../identity/secret-file.ts';
import type { AgentTls } from '../protocol/calls.ts';
import type { AgentExportPlace, ServedExport, ServeOrder } from './agent-export.ts';

/** No transfer takes longer; the authority is thrown away before. */
const LIFETIME_MS = 400 * 24 * 3600 * 1000;
/** It daemonizes before it binds, and DH parameters may take it a while. */
const START_TIMEOUT_MS = 15_000;

/**
 * An nbd-server for this one layer. It knows no names of clients, only an authority that must have signed their
 * certificates: so each export gets an authority of its own, which signs one certificate, that of this agent's key.
 */
export async function nbdServerExport(
  place: AgentExportPlace,
  order: ServeOrder,
  undo: UndoStack,
): Promise<ServedExport> {
  const { folder, layer, listening } = order;
  const { daemon } = place;
  const node = nodeNames.next();
  const mountpoint = join(place.fuseFolder, layer.exportName);
  await daemon.openImage(node, writableLayer(layer.path, layer.parents));
  // also deletes the FUSE file, and flushes and closes the layer
  undo.push('close the layer', () => daemon.closeImage(node));
  await daemon.addExport(node, `x${node}`, { type: 'fuse', mountpoint, writable: true });
  const socketPath = join(folder, 'nbd.sock');
  const tls = listening.kind === 'tcp' ? await makeCertificates(order) : null;
  const place2 =
    listening.kind === 'unix'
      ? [`unixsock = ${socketPath}`]
      : [
          `listenaddr = ${listening.host}`,
          `port = ${listening.port}`,
          ...['cacertfile', 'certfile', 'keyfile'].map((key) => `${key} = ${join(folder, `${key}.pem`)}`),
          'force_tls = true',
        ];
  const config = join(folder, 'nbd-server.conf');
  const text = [
    '[generic]',
    ...place2,
    'max_threads = 4',
    `[${layer.exportName}]`,
    ...[`exportname = ${mountpoint}`, 'flush = true', 'fua = true', 'trim = true', 'virtstyle = none'],
    '',
  ];
  await writeSecretFile(config, text.join('\n'));
  undo.push('stop nbd-server', () => endAll(config));
  const address =
    listening.kind === 'tcp' ? { host: listening.host, port: listening.port } : { path: socketPath };
  await start(config, join(folder, 'nbd-server.pid'), address);
  return { tls, socketPath, canWriteZeroes: false };
}

async function makeCertificates({ agent, folder, id }: ServeOrder): Promise<AgentTls> {
  const now = new Date();
  const authority = await makeAuthority(
    `Sendense export ${id} ${randomBytes(4).toString('hex')}`,
    now,
    LIFETIME_MS,
  );
  const key = await newPrivateKey();
  const sign = (publicKey: string, use: 'agent' | 'appliance') =>
    signCertificate({ authority, publicKey, commonName: id, use, now, lifetimeMs: LIFETIME_MS });
  await writeSecretFile(join(folder, 'cacertfile.pem'), authority.certificate);
  await writeSecretFile(join(folder, 'certfile.pem'), await sign(publicKeyOf(key), 'appliance'));
  await writeSecretFile(join(folder, 'keyfile.pem'), key);
  return { kind: 'x509', ca: authority.certificate, certificate: await sign(agent.publicKey, 'agent') };
}

async function start(config: string, pidFile: string, address: NetConnectOpts): Promise<void> {
  await run('nbd-server', ['-C', config, '-p', pidFile], { timeoutMs: START_TIMEOUT_MS, env: transferHeap });
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).trim());
    if (pid > 1 && (await isAlive(pid)) && (await isListening(address))) return;
    if (Date.now() > deadline)
      throw new SendenseError('TOOL_TIMEOUT', { tool: 'nbd-server', seconds: START_TIMEOUT_MS / 1000 });
    await sleep(10);
  }
}

/** The pid file stands before anybody can connect. */
function isListening(address: NetConnectOpts): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** The parent and the children of all connections: nobody may write any more. */
async function endAll(config: string): Promise<void> {
  for (let round = 0; round < 500; round += 1) {
    const left = await nbdServerProcesses(config);
    if (left.length === 0) return;
    for (const { pid } of left) kill(pid, 'SIGKILL');
    await sleep(10);
  }
}
