import { Metrics } from '../../api/metrics/metrics.ts';
import type { Route } from '../../api/route.ts';
import { metricsRoutes } from '../../api/routes/system/metrics-routes.ts';
import { notifyRoutes } from '../../api/routes/system/notify-routes.ts';
import { supportRoutes } from '../../api/routes/system/support-routes.ts';
import { type Health, systemRoutes } from '../../api/routes/system/system-routes.ts';
import type { TlsListener } from '../../api/tls/listen-tls.ts';
import type { Clock } from '../../base/clock.ts';
import type { LoadedConfig } from '../../base/config/load-config.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Finding } from '../../jobs/doctor/finding.ts';
import { Notifier } from '../../jobs/notify/notifier.ts';
import type { Repositories } from '../../jobs/repository/repositories.ts';
import type { LiveRegistry } from '../../restore/live/live-registry.ts';
import type { MountRegistry } from '../../restore/mount/mount-registry.ts';

interface ObservationWiring {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly loaded: LoadedConfig;
  readonly logger: Logger;
  readonly paths: HomePaths;
  readonly repositories: Repositories;
  readonly mounts: MountRegistry;
  readonly lives: LiveRegistry;
  readonly health: () => Health;
  readonly examine: () => Promise<Finding[]>;
  /** Null: the API is not reached over TCP. */
  readonly api: () => TlsListener | null;
}

/** What others see of the appliance: its state, metrics, notifications, and a bundle for who has to find a fault. */
export function wireObservation(wiring: ObservationWiring): {
  readonly routes: Route[];
  stop(): Promise<void>;
} {
  const { catalog, clock, loaded, logger, paths, repositories, mounts, lives, health, examine, api } = wiring;
  const notifier = new Notifier({ catalog, clock, logger });
  const { version, toolVersions } = health();
  const metrics = new Metrics({
    ...{ catalog, clock, repositories: () => repositories.known() },
    space: { catalog, clock, logger, reserveBytes: loaded.config.repository.reserve_bytes },
    mounts: () => mounts.list().length,
    lives: () => lives.list().length,
    versions: { version, node: process.versions.node, qemu: toolVersions['qemu'] ?? 'none' },
    certificateUntil: () => api()?.certificateUntil ?? null,
    pendingNotifications: catalog.notifications.late,
  });
  return {
    routes: [
      ...metricsRoutes(metrics),
      ...notifyRoutes({ catalog, clock, logger, notifier }),
      ...supportRoutes({
        catalog,
        health,
        examine,
        runFolder: paths.runFolder,
        settings: () => loaded.config,
      }),
      ...systemRoutes({ catalog, loaded, health, api, examine }),
    ],
    stop: async () => await notifier[Symbol.asyncDispose](),
  };
}
