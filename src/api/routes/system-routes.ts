import { z } from 'zod';
import type { LoadedConfig } from '../../base/config/load-config.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Finding } from '../../jobs/doctor/finding.ts';
import type { ScrubReport } from '../../jobs/verify/scrub.ts';
import { defineRoute, type Route } from '../route.ts';
import { limit, queryNumber } from '../schemas.ts';

export interface Health {
  readonly status: 'ok' | 'starting' | 'degraded';
  readonly version: string;
  readonly pid: number;
  readonly home: string;
  readonly exportBackend: string;
  readonly nbdServerPid: number | null;
  readonly storageDaemonPid: number | null;
  readonly toolVersions: Readonly<Record<string, string>>;
  readonly runningJobs: number;
  readonly openMounts: number;
  readonly scrub: ScrubReport;
}

interface SystemDeps {
  readonly catalog: Catalog;
  readonly loaded: LoadedConfig;
  readonly health: () => Health;
  readonly examine: () => Promise<Finding[]>;
}

export function systemRoutes(deps: SystemDeps): Route[] {
  const { catalog, loaded } = deps;
  return [
    defineRoute({
      method: 'get',
      path: '/health',
      tag: 'system',
      summary: 'State of the daemon and its tools',
      answer: z.looseObject({ status: z.string() }),
      handle: async () => deps.health(),
    }),
    defineRoute({
      method: 'get',
      path: '/doctor',
      tag: 'system',
      summary: 'Checks of everything that backups and restores need',
      answer: z.object({
        checks: z.array(
          z.object({
            check: z.string(),
            ok: z.boolean(),
            result: z.enum(['ok', 'warn', 'failed']),
            detail: z.string(),
            next: z.string().nullable(),
          }),
        ),
      }),
      handle: async () => ({
        checks: (await deps.examine()).map((finding) => ({ ...finding, ok: finding.result !== 'failed' })),
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/config',
      tag: 'system',
      summary: 'All settings and where they come from',
      answer: z.object({
        settings: z.array(z.object({ key: z.string(), value: z.unknown(), origin: z.string() })),
      }),
      handle: async () => ({
        settings: Object.entries(loaded.config).flatMap(([section, values]) =>
          Object.entries(values).map(([key, value]) => ({
            key: `${section}.${key}`,
            value,
            origin: loaded.origins.get(`${section}.${key}`) ?? 'default',
          })),
        ),
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/events',
      tag: 'system',
      summary: 'What happened, newest first',
      query: z.strictObject({ limit, before: queryNumber(1, Number.MAX_SAFE_INTEGER).optional() }),
      answer: z.object({
        events: z.array(z.looseObject({ id: z.number(), kind: z.string(), message: z.string() })),
      }),
      handle: async ({ query }) => ({ events: catalog.events.list(query.limit, query.before ?? null) }),
    }),
  ];
}
