import { join } from 'node:path';
import { emptyDir } from 'fs-extra/esm';
import type { Clock } from '../../base/clock.ts';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { LiveClientWatch } from '../../jobs/restore/watch-live-clients.ts';
import { LiveRegistry } from '../../restore/live/live-registry.ts';

interface LiveWiring {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly config: Config;
  readonly logger: Logger;
  readonly paths: HomePaths;
}

const socketsOf = (paths: HomePaths) => join(paths.runFolder, 'live');
/** On disk, also where the sockets lie in memory: guests may write much. */
const overlaysOf = (paths: HomePaths) => join(paths.stateFolder, 'live');

/** Sockets, keys and overlays that a killed daemon left; its storage daemons have ended before. */
export async function clearLive(paths: HomePaths): Promise<void> {
  await emptyDir(socketsOf(paths));
  await emptyDir(overlaysOf(paths));
}

/** Live exports, and what holds their backups meanwhile: live id → gives the backup back. */
export function wireLive({ catalog, clock, config, logger, paths }: LiveWiring) {
  const liveLocks = new Map<string, () => void>();
  const say = (
    kind: string,
    severity: 'info' | 'error',
    subject: string | null,
    id: string,
    message: string,
  ) => catalog.events.add({ kind, severity, subject, message, data: { live_id: id } });
  const lives: LiveRegistry = new LiveRegistry({
    clock,
    place: {
      logger,
      runFolder: socketsOf(paths),
      overlayFolder: overlaysOf(paths),
      get overlayLimitBytes() {
        return config.live.overlay_limit_bytes;
      },
      onRestart: (id, outcome) =>
        say(
          'live.restarted',
          'error',
          null,
          id,
          `The storage daemon of ${id} died (${outcome}); it serves again.`,
        ),
    },
    get max() {
      return config.live.max;
    },
    onOpened: ({ live, backupId, writable }) => {
      const how = writable ? 'writable' : 'read-only';
      say('live.opened', 'info', backupId, live.liveId, `${backupId} is served ${how} as ${live.liveId}.`);
    },
    onClosed: ({ live, backupId }, reason) => {
      liveLocks.get(live.liveId)?.();
      liveLocks.delete(live.liveId);
      say('live.closed', 'info', backupId, live.liveId, `${live.liveId} is no longer served (${reason}).`);
    },
  });
  const watch = new LiveClientWatch({ lives, events: catalog.events, logger });
  return {
    lives,
    watch,
    liveLocks,
    defaultExpiresS: config.live.expires_s,
    tcpAddress: config.live.tcp_address,
  };
}
