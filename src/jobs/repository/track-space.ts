import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { forecastSpace } from '../../policy/space/forecast-space.ts';
import { type Repository, repositorySpace } from '../../repository/open-repository.ts';
import type { KnownRepository } from './repositories.ts';

export interface SpaceDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly reserveBytes: number;
}

export interface SpaceReport {
  /** Of its file system; null while it is away. */
  readonly totalBytes: number | null;
  readonly availableBytes: number | null;
  /** Length of all layers in it. */
  readonly usedBytes: number;
  readonly growthBytesPerDay: number | null;
  readonly fullAt: string | null;
}

/** Days that a forecast is made from. */
const DAYS = 31;
/** The size of a day is the last one that was looked at on it. */
const SAMPLE_MS = 10 * 60 * 1000;
/** Time enough to buy a disk. */
const WARN_MS = 7 * 24 * 3600 * 1000;

/** How much room there is, how much lies there, and for how long that will do. */
export async function spaceReport(
  deps: SpaceDeps,
  { repository, state }: Pick<KnownRepository, 'repository' | 'state'>,
): Promise<SpaceReport> {
  const { catalog, clock, reserveBytes } = deps;
  const usedBytes = catalog.chains.usedBytes(repository.id);
  const away = { totalBytes: null, availableBytes: null, usedBytes, growthBytesPerDay: null, fullAt: null };
  if (state === 'away') return away;
  // one that went away this moment is told as away by the next look
  const space = await repositorySpace(repository.root).catch(() => null);
  if (space === null) return away;
  const sizes = catalog.repositorySizes.recent(repository.id, DAYS);
  const { growthBytesPerDay, fullAt } = forecastSpace(sizes, space.availableBytes, reserveBytes, clock.now());
  return { ...space, usedBytes, growthBytesPerDay, fullAt: fullAt?.toISOString() ?? null };
}

/** Remembers how much lies in each repository on each day, and says once a day when one will soon be full. */
export class SpaceTracker {
  readonly #deps: SpaceDeps;
  readonly #sampledMs = new Map<string, number>();

  constructor(deps: SpaceDeps) {
    this.#deps = deps;
  }

  /** To be called often; does something now and then. Never fails. */
  async seen(repository: Repository): Promise<void> {
    const nowMs = Date.now();
    if (nowMs - (this.#sampledMs.get(repository.id) ?? 0) < SAMPLE_MS) return;
    this.#sampledMs.set(repository.id, nowMs);
    try {
      await this.#sample(repository);
    } catch (error) {
      this.#deps.logger.warn(
        { error: messageOf(error), repository: repository.name },
        'its size is not known',
      );
    }
  }

  async #sample(repository: Repository): Promise<void> {
    const { catalog, clock } = this.#deps;
    const now = clock.now();
    const day = now.toISOString().slice(0, 10);
    catalog.repositorySizes.save(repository.id, day, catalog.chains.usedBytes(repository.id));
    const report = await spaceReport(this.#deps, { repository, state: 'ready' });
    const { fullAt, growthBytesPerDay, availableBytes } = report;
    if (fullAt === null || Date.parse(fullAt) - now.getTime() > WARN_MS) return;
    if (!catalog.repositorySizes.isFirstWarning(repository.id, day)) return;
    const free = availableBytes === null ? '' : `, ${formatBytes(availableBytes)} are free`;
    const growth =
      growthBytesPerDay === null ? '' : `: it grows by ${formatBytes(growthBytesPerDay)} a day${free}`;
    catalog.events.add({
      kind: 'repository.filling',
      severity: 'warning',
      subject: repository.name,
      message: `The repository ${repository.name} will be full about ${fullAt.slice(0, 10)}${growth}.`,
      data: { path: repository.root, ...report },
    });
  }
}
