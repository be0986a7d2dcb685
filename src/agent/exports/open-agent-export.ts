import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DataWay } from '../../catalog/agents.ts';
import { UndoStack } from '../../restore/mount/undo-stack.ts';
import type { AgentWay } from '../protocol/calls.ts';
import type {
  AgentExport,
  AgentExportOrder,
  AgentExportPlace,
  Listening,
  ServedExport,
} from './agent-export.ts';
import { nbdServerExport } from './nbd-server-export.ts';
import { storageDaemonExport } from './storage-daemon-export.ts';

/**
 * Much in flight hides a long way: 32 MiB take a connection of 80 ms to 400 MiB/s. Several connections, because each has
 * its own window; QEMU takes at most 16 requests of each.
 */
const farTuning = { connections: 4, inFlight: 8 } as const;
const nearTuning = { connections: 2, inFlight: 4 } as const;

/**
 * Serves a layer to one agent for one attempt: a server process of its own, with a key or an authority that exists only
 * for it. When it is closed nothing listens there any more, and its key opens nothing else.
 * @throws DATA_WAY_OFF, LIMIT_REACHED (ports), TOOL_…, QMP_FAILED
 */
export async function openAgentExport(
  place: AgentExportPlace,
  order: AgentExportOrder,
): Promise<AgentExport> {
  const undo = new UndoStack();
  try {
    const { dataWay } = order.agent;
    const folder = join(place.runFolder, order.id);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    undo.push(`remove ${folder}`, () => rm(folder, { recursive: true, force: true }));
    const listening = await listeningFor(place, dataWay, undo);
    const serve = place.backend === 'nbd-server' ? nbdServerExport : storageDaemonExport;
    const served = await serve(place, { ...order, folder, listening }, undo);
    const way = await wayTo(place, order, listening, served, undo);
    const { canWriteZeroes } = served;
    return {
      ...{ exportName: order.layer.exportName, way, tls: served.tls },
      tuning: { ...(dataWay === 'local' ? nearTuning : farTuning), canWriteZeroes },
      [Symbol.asyncDispose]: async () => {
        try {
          await undo.unwind({ force: true });
        } finally {
          await undo.unwindAll(place.logger);
        }
      },
    };
  } catch (error) {
    await undo.unwindAll(place.logger);
    throw error;
  }
}

async function listeningFor(place: AgentExportPlace, way: DataWay, undo: UndoStack): Promise<Listening> {
  if (way === 'local') return { kind: 'unix' };
  // inside the tunnel it is only a port of the loopback, and no firewall needs to know it
  const host = way === 'ssh' ? '127.0.0.1' : place.host;
  const { port, release } = await place.ports.take(host, way === 'ssh');
  undo.push(`give port ${port} back`, async () => release());
  return { kind: 'tcp', host, port };
}

async function wayTo(
  place: AgentExportPlace,
  { agent, id }: AgentExportOrder,
  listening: Listening,
  served: ServedExport,
  undo: UndoStack,
): Promise<AgentWay> {
  if (listening.kind === 'unix') return { kind: 'local', socketPath: served.socketPath };
  if (agent.dataWay !== 'ssh' || place.ssh === null) return { kind: 'tls', port: listening.port };
  const { ssh } = place;
  const way = await ssh.permit(id, agent, listening.port);
  undo.push('end the ssh tunnel', () => ssh.forbid(id));
  return way;
}
