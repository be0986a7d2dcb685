import { setImmediate as breathe } from 'node:timers/promises';
import { Registry } from 'prom-client';
import type { Clock } from '../../base/clock.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { KnownRepository } from '../../jobs/repository/repositories.ts';
import { type SpaceDeps, spaceReport } from '../../jobs/repository/track-space.ts';
import { makeGauges } from './gauges.ts';

/** Series of machines: eight for each. Prometheus takes many more; a scrape of this size is some megabytes. */
const MAX_MACHINES = 10_000;
/** Kinds of events belong to the code; whatever else stood in an old log is one series. */
const MAX_KINDS = 200;
/** Several Prometheis, or one that is set too fast, get the same answer. */
const KEPT_MS = 2_000;
const SOON_MS = 7 * 86_400_000;

export interface MetricsDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly space: SpaceDeps;
  readonly repositories: () => readonly KnownRepository[];
  readonly mounts: () => number;
  readonly lives: () => number;
  readonly versions: { readonly version: string; readonly node: string; readonly qemu: string };
  /** ISO 8601; null: the API is not reached over TCP. */
  readonly certificateUntil: () => string | null;
  readonly pendingNotifications: () => number;
}

/** What Prometheus asks for. All but the counts of events is computed from the catalogue when it is asked. */
export class Metrics {
  readonly #deps: MetricsDeps;
  readonly #registry = new Registry();
  readonly #gauges = makeGauges(this.#registry);
  readonly #kinds = new Set<string>();
  #kept: { readonly atMs: number; readonly text: Promise<string> } | null = null;

  constructor(deps: MetricsDeps) {
    this.#deps = deps;
    for (const { kind, severity, count } of deps.catalog.measures.eventCounts())
      this.#count(kind, severity, count);
    deps.catalog.events.stream.on('event', ({ kind, severity }) => this.#count(kind, severity, 1));
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In the text format of Prometheus. */
  async text(): Promise<string> {
    const nowMs = performance.now();
    if (this.#kept === null || nowMs - this.#kept.atMs > KEPT_MS)
      this.#kept = { atMs: nowMs, text: this.#compute(nowMs) };
    return await this.#kept.text;
  }

  /** Names, types, labels and what they mean. */
  async describe() {
    return await this.#registry.getMetricsAsJSON();
  }

  #count(kind: string, severity: string, count: number): void {
    const known = this.#kinds.has(kind) || this.#kinds.size < MAX_KINDS;
    if (known) this.#kinds.add(kind);
    this.#gauges.events.inc({ kind: known ? kind : 'other', severity }, count);
  }

  async #compute(startedMs: number): Promise<string> {
    this.#measureMachines();
    await breathe();
    await this.#measureRepositories();
    this.#measureMirrors();
    this.#measureAppliance();
    this.#gauges.appliance.scrape.set((performance.now() - startedMs) / 1000);
    return await this.#registry.metrics();
  }

  #measureMachines(): void {
    const { catalog, clock } = this.#deps;
    const { machine, appliance } = this.#gauges;
    const nowS = clock.now().getTime() / 1000;
    for (const gauge of Object.values(machine)) gauge.reset();
    const all = catalog.measures.machines();
    for (const { name, ...found } of all.slice(0, MAX_MACHINES)) {
      const labels = { machine: name };
      if (found.lastSuccessAt !== null) machine.lastSuccess.set(labels, secondsOf(found.lastSuccessAt));
      if (found.lastSeconds !== null)
        machine.lastSeconds.set(labels, Math.round(found.lastSeconds * 1000) / 1000);
      if (found.lastBytes !== null) machine.lastBytes.set(labels, found.lastBytes);
      if (found.lastOk !== null) machine.lastOk.set(labels, found.lastOk ? 1 : 0);
      if (found.newestGoodAt !== null) machine.goodAge.set(labels, nowS - secondsOf(found.newestGoodAt));
      if (found.lastVerifiedAt !== null)
        machine.verifiedAge.set(labels, nowS - secondsOf(found.lastVerifiedAt));
      machine.chainDepth.set(labels, found.chainDepth);
    }
    appliance.machines.set(all.length);
    appliance.leftOut.set(Math.max(all.length - MAX_MACHINES, 0));
    appliance.unprotected.set(all.filter(({ newestGoodAt }) => newestGoodAt === null).length);
  }

  async #measureRepositories(): Promise<void> {
    const { repositoryUp, available, size, used } = this.#gauges.appliance;
    const found = await Promise.all(
      this.#deps
        .repositories()
        .map(async (known) => ({ known, space: await spaceReport(this.#deps.space, known) })),
    );
    for (const gauge of [repositoryUp, available, size, used]) gauge.reset();
    for (const { known, space } of found) {
      const labels = { repository: known.repository.name };
      repositoryUp.set(labels, known.state === 'away' ? 0 : 1);
      used.set(labels, space.usedBytes);
      if (space.availableBytes !== null) available.set(labels, space.availableBytes);
      if (space.totalBytes !== null) size.set(labels, space.totalBytes);
    }
  }

  #measureMirrors(): void {
    const { catalog, clock } = this.#deps;
    const { mirrorLag, mirrorMissing } = this.#gauges.appliance;
    for (const gauge of [mirrorLag, mirrorMissing]) gauge.reset();
    for (const { name, settings } of catalog.mirrors.all()) {
      const { missing, oldestMissingAt } = catalog.measures.mirror(name, settings.vms);
      mirrorMissing.set({ mirror: name }, missing);
      const lag = oldestMissingAt === null ? 0 : clock.now().getTime() / 1000 - secondsOf(oldestMissingAt);
      mirrorLag.set({ mirror: name }, lag);
    }
  }

  #measureAppliance(): void {
    const { catalog, clock, versions, ...deps } = this.#deps;
    const { appliance } = this.#gauges;
    const counts = new Map(catalog.measures.unfinishedJobs().map(({ status, count }) => [status, count]));
    for (const status of ['pending', 'running']) appliance.jobs.set({ status }, counts.get(status) ?? 0);
    appliance.mounts.set(deps.mounts());
    appliance.lives.set(deps.lives());
    appliance.notifyPending.set(deps.pendingNotifications());
    const nowMs = clock.now().getTime();
    const leftMs = catalog.tokens
      .all()
      .flatMap(({ revokedAt, expiresAt }) =>
        revokedAt !== null || expiresAt === null ? [] : [Date.parse(expiresAt) - nowMs],
      );
    appliance.tokensExpiring.set(leftMs.filter((left) => left > 0 && left < SOON_MS).length);
    const until = deps.certificateUntil();
    if (until !== null) appliance.certificate.set(secondsOf(until));
    appliance.build.set(versions, 1);
  }
}

const secondsOf = (time: string): number => Date.parse(time) / 1000;
