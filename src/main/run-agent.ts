import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { emptyDir } from 'fs-extra/esm';
import { type AgentHome, readCredentials, readSettings } from '../agent/source/agent-home.ts';
import { callHandlers } from '../agent/source/call-handlers.ts';
import { awaitApproval } from '../agent/source/enroll.ts';
import { readAddress } from '../agent/source/find-appliance.ts';
import { Leftovers } from '../agent/source/leftovers.ts';
import { serveAppliance } from '../agent/source/serve-appliance.ts';
import type { Session } from '../agent/source/session.ts';
import { Snapshots } from '../agent/source/snapshots.ts';
import { Transfers } from '../agent/source/transfers.ts';
import { configDefaults } from '../base/config/config-defaults.ts';
import { lockFile } from '../base/home/file-lock.ts';
import { createLogger } from '../base/logger.ts';
import { endOwnedProcesses, markChildren, ownerIdOf } from '../base/process/owned-processes.ts';
import { hasCode, SendenseError } from '../base/sendense-error.ts';
import { endSharedLogins } from '../capture/libvirt/host/ssh-master.ts';
import { libvirtSource } from '../capture/libvirt/libvirt-source.ts';
import { StorageDaemon } from '../qemu/storage-daemon.ts';
import { wireSources } from './wiring/wire-sources.ts';

interface AgentRun {
  readonly home: AgentHome;
  readonly version: string;
  readonly logLevel: string;
  readonly moverFile: string;
  readonly signal: AbortSignal;
}

/** As the appliance's own defaults: what a guest overwrites meanwhile goes to a disk of this host. */
const libvirtOf = (home: AgentHome) => ({
  runFolder: join(home.runFolder, 'virt'),
  scratchFolder: configDefaults.libvirt.scratch_folder,
  scratchBytes: configDefaults.libvirt.scratch_mib * 1024 ** 2,
});

/** Wires an agent together and serves its appliance until it is told to end. */
export async function runAgent({ home, version, logLevel, moverFile, signal }: AgentRun): Promise<void> {
  const logger = createLogger(logLevel);
  await mkdir(home.runFolder, { recursive: true, mode: 0o700 });
  using lock = lockFile(home.lockFile);
  if (lock === null) throw new SendenseError('AGENT_RUNNING', { path: home.folder });
  const ownerId = ownerIdOf(home.folder);
  await endOwnedProcesses(ownerId);
  markChildren(ownerId);
  process.umask(0o077);
  await emptyDir(home.runFolder);
  await awaitApproval(home, signal);
  const settings = await readSettings(home);
  if (settings === null) throw new SendenseError('AGENT_NOT_ENROLLED', { path: home.folder });
  const { key } = await readCredentials(home);
  const address = readAddress(settings.appliance);

  await using daemon = new StorageDaemon({ logger, folder: join(home.runFolder, 'qsd') });
  let started: Promise<void> | null = null;
  // only what is no plain raw image needs it, and a host without QEMU can give those
  const ready = () => {
    started ??= daemon.start().catch((error: unknown) => {
      if (!hasCode(error, 'TOOL_MISSING')) started = null;
      logger.warn({ error: String(error) }, 'no qemu-storage-daemon: only raw images can be read');
    });
    return started;
  };
  const sourceOf = wireSources({ daemon, libvirt: libvirtSource(libvirtOf(home)) });
  const leftovers = new Leftovers(join(home.folder, 'leftovers.json'), logger);
  await leftovers.cleanUp(sourceOf);
  let session: Session | null = null;
  const offline = () =>
    new SendenseError('APPLIANCE_UNREACHABLE', { address: address.host, detail: 'not connected' });
  await using snapshots = new Snapshots({ sourceOf, leftovers });
  await using transfers = new Transfers({
    ...{ logger, moverFile, snapshots, key, host: address.host, sshKeyFile: home.sshKeyFile },
    runFolder: home.runFolder,
    parentRows: (transferId) => {
      if (session === null) throw offline();
      return session.parentRows(transferId);
    },
  });
  const onCall = callHandlers({
    ...{ sourceOf, snapshots, transfers, ready, signal },
    // read anew each time: `sendense-agent allow` needs no restart
    allow: async () => (await readSettings(home))?.allow ?? [],
  });
  logger.info({ home: home.folder, appliance: settings.appliance, version }, 'starting');
  try {
    await serveAppliance({
      ...{ home, address, version, logger, snapshots, transfers, onCall, signal },
      onSession: (opened) => {
        session = opened;
      },
    });
  } catch (error) {
    if (!hasCode(error, 'CANCELLED')) throw error;
    logger.info('stopping');
  } finally {
    await endSharedLogins();
  }
}
