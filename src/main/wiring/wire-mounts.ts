import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { DownloadLimits } from '../../restore/browse/transfer/download-limits.ts';
import { MountRegistry } from '../../restore/mount/mount-registry.ts';
import type { Mountd } from './wire-mountd.ts';

interface MountWiring {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly config: Config;
  readonly logger: Logger;
  readonly paths: HomePaths;
  readonly mountd: Mountd;
  readonly volumesFile: string;
  readonly vmFolder: string;
}

/** Mounted restore points, and what holds their backups meanwhile: mount id → gives the backup back. */
export function wireMounts({
  catalog,
  clock,
  config,
  logger,
  paths,
  mountd,
  volumesFile,
  vmFolder,
}: MountWiring): {
  mounts: MountRegistry;
  mountLocks: Map<string, () => void>;
  downloads: DownloadLimits;
} {
  const mountLocks = new Map<string, () => void>();
  const say = (kind: string, backupId: string, mountId: string, message: string) =>
    catalog.events.add({ kind, severity: 'info', subject: backupId, message, data: { mount_id: mountId } });
  const mounts = new MountRegistry({
    clock,
    mountDeps: {
      logger,
      runFolder: paths.runFolder,
      mountFolder: paths.mountFolder,
      work: mountd.work,
      volumesFile,
      vmFolder,
      kvmFile: join(paths.runFolder, 'kvm.json'),
      hasPrivileges: mountd.hasPrivileges,
      get mode() {
        return config.mounts.mode;
      },
      get overlayLimitBytes() {
        return config.mounts.overlay_limit_bytes;
      },
    },
    get max() {
      return config.mounts.max;
    },
    get idleTimeoutMs() {
      return config.mounts.idle_timeout_s * 1000;
    },
    onOpened: ({ mountId, backupId, mount }) => {
      catalog.mounts.opened({ mountId, backupId, mountPath: mount.mountPath }, clock.now());
      say('mount.opened', backupId, mountId, `${backupId} is mounted as ${mountId}.`);
    },
    onClosed: ({ mountId, backupId }, reason) => {
      mountLocks.get(mountId)?.();
      mountLocks.delete(mountId);
      catalog.mounts.closed(mountId, reason, clock.now());
      say('mount.closed', backupId, mountId, `${mountId} is unmounted (${reason}).`);
    },
  });
  const downloads = new DownloadLimits({
    get max() {
      return config.mounts.max_downloads;
    },
    get maxPerMount() {
      return config.mounts.max_downloads_per_mount;
    },
    get mibPerSecond() {
      return config.mounts.download_mib_per_s;
    },
  });
  return { mounts, mountLocks, downloads };
}
