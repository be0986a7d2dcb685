import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { emptyDir } from 'fs-extra/esm';
import type { AgentExportOrder, AgentExportPlace } from '../../agent/exports/agent-export.ts';
import { DataPorts } from '../../agent/exports/data-ports.ts';
import { openAgentExport } from '../../agent/exports/open-agent-export.ts';
import { SshServer } from '../../agent/exports/ssh-server.ts';
import { AgentHub } from '../../agent/hub/agent-hub.ts';
import { listenForAgents } from '../../agent/hub/agent-listener.ts';
import { AgentOffice } from '../../agent/hub/agent-office.ts';
import { EnrolmentDesk } from '../../agent/hub/enrolment-desk.ts';
import { openAuthority } from '../../agent/identity/authority.ts';
import { carryFromAgent } from '../../agent/transfers/carry-from-agent.ts';
import { readRowFiles } from '../../agent/transfers/read-row-files.ts';
import { remoteSource } from '../../agent/transfers/remote-source.ts';
import { TransferBoard } from '../../agent/transfers/transfer-board.ts';
import { WantedSnapshots } from '../../agent/transfers/wanted-snapshots.ts';
import type { Clock } from '../../base/clock.ts';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { LocalSources } from '../../capture/source.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { BackupDeps } from '../../jobs/backup/backup-deps.ts';
import type { Carrier } from '../../jobs/backup/carry/carrier.ts';
import type { Resumption } from '../../jobs/backup/resume/resumption.ts';
import type { AgentDisks } from '../../jobs/manage-vms.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import { fuseFolderOf } from './wire-tools.ts';

interface AgentWiring {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly config: Config;
  readonly logger: Logger;
  readonly paths: HomePaths;
  readonly version: string;
  readonly daemon: StorageDaemon;
  /** Backups of an earlier daemon: their snapshots must still be there. */
  readonly wanted: readonly Resumption[];
}

/** Agents of this appliance. */
export interface Agents {
  /** Null: nothing listens for them. */
  readonly office: AgentOffice | null;
  readonly disks: AgentDisks;
  /** Where machines are read, and how their bytes come here; machines of this host as without agents. */
  backup(
    sources: LocalSources,
    here: (direct: boolean) => Carrier,
  ): Pick<BackupDeps, 'sourceOf' | 'carrierOf'>;
  /** From now on what agents hold stays for the next daemon. */
  isStopping(): void;
  stop(): Promise<void>;
}

const exportsOf = (paths: HomePaths) => join(paths.runFolder, 'agents');

/** What a killed daemon left of its exports for agents; their servers have ended before. */
export const clearAgentExports = (paths: HomePaths): Promise<void> => emptyDir(exportsOf(paths));

const none: Agents = {
  office: null,
  disks: {
    idOf: () => {
      throw new SendenseError('AGENTS_OFF');
    },
    inspect: async () => {
      throw new SendenseError('AGENTS_OFF');
    },
  },
  backup: (sources, here) => ({
    sourceOf: (kind, agentId) => {
      if (agentId !== null) throw new SendenseError('AGENTS_OFF');
      return sources(kind);
    },
    carrierOf: (_agentId, direct) => here(direct),
  }),
  isStopping: () => {},
  stop: async () => {},
};

export async function wireAgents(wiring: AgentWiring): Promise<Agents> {
  const { catalog, clock, config, logger, paths, version } = wiring;
  const settings = config.agents;
  if (settings.listen === '') return none;
  const say = (kind: string, severity: 'info' | 'warning', agent: string, message: string) =>
    catalog.events.add({ kind, severity, subject: agent, message, data: {} });
  const authority = await openAuthority(join(paths.stateFolder, 'agents'), clock);
  const patienceMs = settings.patience_s * 1000;
  const board = new TransferBoard();
  const snapshots = new WantedSnapshots();
  for (const { memory } of wiring.wanted)
    snapshots.add(String(memory['snapshotId']), String(memory['agentId']));
  const hub = new AgentHub({ catalog, clock, logger, version, patienceMs, board, snapshots, say });
  const certificateMs = settings.certificate_s * 1000;
  const desk = new EnrolmentDesk({ catalog, clock, authority, certificateMs, say });
  const listener = await listenForAgents(settings.listen, {
    ...{ agents: catalog.agents, authority, desk, hub, logger },
    parentRows: (transferId, agentId) => readRowFiles(board.parentRows(transferId, agentId)),
  });
  const ssh =
    settings.ssh_listen === ''
      ? null
      : await SshServer.start({
          ...{ logger, listen: settings.ssh_listen, user: settings.ssh_user },
          ...{ stateFolder: join(paths.stateFolder, 'agents'), runFolder: join(paths.runFolder, 'ssh') },
        });
  const office = new AgentOffice({
    ...{ catalog, clock, hub, desk, listener, say },
    wayObjection: (way) =>
      way === 'ssh' && ssh === null ? 'no sshd serves agents; set `agents.ssh_listen`' : null,
  });
  const host = settings.listen.slice(0, settings.listen.lastIndexOf(':')).replace(/^\[|\]$/g, '');
  const place: AgentExportPlace = {
    ...{ logger, daemon: wiring.daemon, host, ssh, backend: config.exports.backend },
    ...{ runFolder: exportsOf(paths), fuseFolder: fuseFolderOf(paths) },
    ports: new DataPorts(settings.data_ports),
  };
  await mkdir(place.runFolder, { recursive: true, mode: 0o750 });
  const carryDeps = {
    ...{ agents: catalog.agents, board, hub, logger, patienceMs, runFolder: place.runFolder },
    openExport: (order: AgentExportOrder) => openAgentExport(place, order),
  };
  return {
    office,
    disks: {
      idOf: (name) => office.byName(name).agentId,
      inspect: async (agentId, { path, format, allowBacking }) =>
        await (await hub.connected(agentId, 0)).call('inspect', {
          ...{ path, format, allowBacking: [...allowBacking] },
        }),
    },
    backup: (sources, here) => ({
      sourceOf: (kind, agentId) =>
        agentId === null ? sources(kind) : remoteSource({ hub, patienceMs, snapshots }, kind, agentId),
      carrierOf: (agentId, direct) => (agentId === null ? here(direct) : carryFromAgent(carryDeps, agentId)),
    }),
    isStopping: () => snapshots.keepAll(),
    stop: async () => {
      await hub[Symbol.asyncDispose]();
      await listener.close();
      await ssh?.stop();
    },
  };
}
