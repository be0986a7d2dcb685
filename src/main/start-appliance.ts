import { join } from 'node:path';
import type { Health } from '../api/routes/system/system-routes.ts';
import { createServer } from '../api/server.ts';
import type { TlsListener } from '../api/tls/listen-tls.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import type { LoadedConfig } from '../base/config/load-config.ts';
import type { HomePaths } from '../base/home/home-paths.ts';
import type { Logger } from '../base/logger.ts';
import { endSharedLogins } from '../capture/libvirt/host/ssh-master.ts';
import { libvirtSource } from '../capture/libvirt/libvirt-source.ts';
import { createCatalog } from '../catalog/catalog.ts';
import { carryHere } from '../jobs/backup/carry/carry-here.ts';
import { examine } from '../jobs/doctor/examine.ts';
import { JobEngine } from '../jobs/job-engine.ts';
import { SpaceTracker } from '../jobs/repository/track-space.ts';
import { RepositoryWatch } from '../jobs/repository/watch-repositories.ts';
import { Scrub } from '../jobs/verify/scrub.ts';
import { probeToolVersions, versionText } from '../qemu/tool-versions.ts';
import { cleanUpHome } from './clean-up-home.ts';
import { checkSocketLengths } from './home-socket.ts';
import { serveHome } from './serve-home.ts';
import { apiCredentials, wireAccess } from './wiring/wire-access.ts';
import { wireAgents } from './wiring/wire-agents.ts';
import { wireBootTests } from './wiring/wire-boot-tests.ts';
import { hardDepth, wireChains } from './wiring/wire-chains.ts';
import { foldersOf, wireDoctor } from './wiring/wire-doctor.ts';
import { wireLive } from './wiring/wire-live.ts';
import { wireMirrors } from './wiring/wire-mirrors.ts';
import { wireMounts } from './wiring/wire-mounts.ts';
import { wireObservation } from './wiring/wire-observation.ts';
import { wirePolicies } from './wiring/wire-policies.ts';
import { wireRecovery } from './wiring/wire-recovery.ts';
import { wireRoutes } from './wiring/wire-routes.ts';
import { libvirtSettings, wireSources } from './wiring/wire-sources.ts';
import { wireTools } from './wiring/wire-tools.ts';

interface ApplianceDeps {
  readonly paths: HomePaths;
  readonly loaded: LoadedConfig;
  readonly logger: Logger;
  readonly version: string;
  readonly ownerId: string;
  readonly moverFile: string;
  readonly mountdFile: string;
  readonly volumesFile: string;
  readonly mirrorFile: string;
  readonly vmFolder: string;
  /** Another one than the machine's, to live through years in minutes. */
  readonly clock?: Clock;
  readonly onStep?: (step: string) => void;
}

export interface Appliance {
  /** Stops everything, in order. */
  readonly stop: () => Promise<void>;
  /** To be called when values in the settings it was started with have become others (`reloadConfig`). */
  readonly settingsChanged: () => void;
}

/** Wires the rooms together and serves. The home must be locked. */
export async function startAppliance(deps: ApplianceDeps): Promise<Appliance> {
  const { paths, loaded, logger } = deps;
  const { config } = loaded;
  const clock = deps.clock ?? systemClock;
  checkSocketLengths(paths);
  const credentials = await apiCredentials({ clock, config, paths });
  // a start that fails leaves no program behind
  await using started = new AsyncDisposableStack();
  const mountd = await cleanUpHome(deps);
  started.defer(() => mountd.stop());

  const catalog = createCatalog(paths.catalogFile, clock, logger);
  catalog.mounts.closeLeftovers(clock.now());
  catalog.idempotency.dropRunning();
  const tools = await probeToolVersions();
  const toolVersions = {
    sendense: deps.version,
    node: process.versions.node,
    qemu: versionText(tools.qemu),
    'nbd-server': versionText(tools.nbdServer),
  };
  const virtSettings = libvirtSettings(paths, config);
  const libvirt = libvirtSource(virtSettings);
  const recovered = await wireRecovery({
    ...{ catalog, clock, config, libvirt, logger, paths },
    onStep: (step) => deps.onStep?.(step),
  });
  const { keeper: repositoryKeeper, locks } = recovered;
  const { repositories } = repositoryKeeper;

  const programs = wireTools({ catalog, config, logger, paths, versions: tools });
  started.defer(() => programs.stop());
  const engine = new JobEngine({
    jobs: catalog.jobs,
    events: catalog.events,
    clock,
    logger,
    maxConcurrent: () => config.jobs.max_concurrent,
    ...(deps.onStep ? { onStep: deps.onStep } : {}),
  });
  const { mounts, mountLocks, downloads } = wireMounts({
    catalog,
    clock,
    config,
    logger,
    paths,
    mountd,
    volumesFile: deps.volumesFile,
    vmFolder: deps.vmFolder,
  });
  const boots = wireBootTests({ config, logger, paths, vmFolder: deps.vmFolder, toolVersions });
  const agents = await wireAgents({
    ...{ catalog, clock, config, logger, paths, version: deps.version },
    wanted: recovered.resumable.map(({ resumption }) => resumption),
    daemon: programs.daemon,
  });
  started.defer(() => agents.stop());
  const live = wireLive({ catalog, clock, config, logger, paths });
  const { keeper, routeDeps } = wireChains({
    catalog,
    clock,
    config,
    engine,
    locks,
    logger,
    paths,
    repositories,
  });
  const { chainsChanged } = routeDeps;
  const { mirrorFile } = deps;
  const { mirrors, backupMade } = wireMirrors({
    ...{ catalog, clock, engine, locks, logger, paths, repositories, mirrorFile },
  });
  const carrying = { logger, moverFile: deps.moverFile, runFolder: paths.runFolder };
  const here = {
    usual: carryHere({ ...carrying, exports: programs.exports }),
    direct: carryHere({ ...carrying, exports: programs.directExports }),
  };
  const capture = agents.backup(
    wireSources({ daemon: programs.daemon, libvirt }),
    (direct) => here[direct ? 'direct' : 'usual'],
  );
  const backup = {
    catalog,
    clock,
    ...capture,
    toolVersions,
    get maxDepth() {
      return hardDepth(config);
    },
    hookTimeoutMs: config.jobs.hook_timeout_s * 1000,
    reserveBytes: config.repository.reserve_bytes,
  };
  const verify = { catalog, clock, engine, locks, repositories, logger, runFolder: paths.runFolder };
  const scrub = new Scrub(verify, config.verify);
  const space = { catalog, clock, logger, reserveBytes: config.repository.reserve_bytes };
  const health = (): Health => ({
    status: programs.failure() !== null ? 'degraded' : programs.areReady() ? 'ok' : 'starting',
    version: deps.version,
    pid: process.pid,
    home: paths.home,
    exportBackend: config.exports.backend,
    nbdServerPid: programs.nbdServer.pid,
    storageDaemonPid: programs.daemon.pid,
    toolVersions,
    runningJobs: catalog.jobs.unfinished().length,
    openMounts: mounts.list().length,
    scrub: scrub.report(),
  });
  const doctor = wireDoctor({
    ...{ catalog, clock, config, paths, repositories, programs, versions: tools, vmFolder: deps.vmFolder },
    ...{ hasMountd: mountd.hasPrivileges, certificateUntil: () => api?.certificateUntil ?? null },
  });
  const ownFolders = foldersOf(paths);
  const restoreTools = {
    logger,
    stateFolder: join(paths.stateFolder, 'restores'),
    runFolder: paths.runFolder,
    moverFile: deps.moverFile,
    get segmentBytes() {
      return config.restore.segment_mib * 1024 ** 2;
    },
  };
  const restore = { catalog, repositories, locks, engine, mirrors, ownFolders, restoreTools };
  const startBackups = { backup, engine, locks, repositories, chainsChanged, backupMade };
  const policies = wirePolicies({
    ...{ catalog, clock, config, engine, logger, paths, repositories, mirrors, verify },
    backups: startBackups,
    prune: routeDeps,
    bootTests: { ...restore, clock, boots },
  });
  // those of a machine that nobody registered may come out of a repository, and who writes there gives no rights
  const labelsOf = (vmName: string) => {
    const vm = catalog.vms.byName(vmName);
    return vm?.registered ? vm.labels : {};
  };
  const access = wireAccess({ catalog, clock, config, paths, labelsOf });
  const subjects = { catalog, engine, mounts, lives: live.lives };
  const { events, idempotency } = catalog;
  let api: TlsListener | null = null;
  const observation = wireObservation({
    ...{ catalog, clock, loaded, logger, paths, repositories, mounts, lives: live.lives, health },
    ...{ examine: () => examine(doctor), api: () => api },
  });
  const app = createServer(
    { logger, clock, events, idempotency, version: deps.version, gate: access.gate, subjects },
    wireRoutes({
      backups: { ...startBackups, catalog, clock },
      chains: routeDeps,
      copies: { ...routeDeps, workFolder: join(paths.runFolder, 'copy') },
      vms: { catalog, clock, locks, repositories, sourceOf: capture.sourceOf, agents: agents.disks },
      agents: agents.office,
      jobs: { engine, jobs: catalog.jobs, vmNames: () => catalog.vms.all().map(({ name }) => name) },
      mounts: { catalog, repositories, locks, mounts, mountLocks, mirrors, ownFolders },
      restore,
      libvirtRestore: { ...restore, ...live, libvirtSettings: virtSettings },
      live: { ...restore, ...live },
      browse: { catalog, mounts, downloads },
      bootTests: { ...restore, clock, boots },
      repositories: { ...space, engine, repositories, locks, keeper: repositoryKeeper },
      verify,
      policies: policies.routeDeps,
      coverage: { ...policies.routeDeps, health },
      mirrors: { ...mirrors, chainsChanged, reserveBytes: config.repository.reserve_bytes },
      tokens: { office: access.office, tokens: catalog.tokens.all, now: () => clock.now() },
      others: observation.routes,
    }),
  );
  await recovered.goOn(startBackups);
  const served = await serveHome(app, {
    ...{ config, credentials, logger, paths },
    isLocal: (socket) => access.gate.isLocal(socket),
  });
  api = served.tls;
  catalog.events.add({
    kind: 'daemon.started',
    severity: 'info',
    subject: null,
    message: `sendensed ${deps.version} serves ${paths.home}.`,
    data: { pid: process.pid },
  });
  policies.start();
  scrub.start();

  void keeper.lookAtAll();
  recovered.whenBack(() => keeper.lookAtAll());
  const tracker = new SpaceTracker(space);
  const watch = new RepositoryWatch({
    catalog,
    keeper: repositoryKeeper,
    pollMs: config.repository.poll_s * 1000,
    onSeen: (record) => void tracker.seen(record),
  });

  const stop = async () => {
    served.close();
    await watch[Symbol.asyncDispose]();
    policies.close();
    keeper.close();
    agents.isStopping();
    await Promise.all([engine.close(), scrub.stop()]);
    await endSharedLogins();
    await agents.stop();
    await Promise.all([mounts.closeAll(), live.lives.closeAll()]);
    served.end();
    await Promise.all([programs.stop(), mountd.stop()]);
    catalog.events.add({
      kind: 'daemon.stopped',
      severity: 'info',
      subject: null,
      message: 'sendensed stopped.',
      data: {},
    });
    live.watch[Symbol.dispose]();
    await repositoryKeeper.closeAll();
    await observation.stop();
    catalog[Symbol.dispose]();
    await served.forget();
  };
  const settingsChanged = () => {
    engine.settingsChanged();
    scrub.settingsChanged();
    void keeper.lookAtAll();
  };
  started.move();
  return { stop, settingsChanged };
}
