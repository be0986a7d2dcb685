import { z } from 'zod';
import type { LoadedConfig } from '../../../base/config/load-config.ts';
import type { Catalog } from '../../../catalog/catalog.ts';
import type { Finding } from '../../../jobs/doctor/finding.ts';
import type { ScrubReport } from '../../../jobs/verify/scrub.ts';
import { defineRoute, type Route } from '../../route.ts';
import { flag, limit, queryNumber } from '../../schemas.ts';
import type { TlsListener } from '../../tls/listen-tls.ts';

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
  /** Null: not reached over TCP. */
  readonly api: () => Pick<TlsListener, 'address' | 'fingerprint' | 'certificateUntil'> | null;
  readonly catalog: Catalog;
  readonly loaded: LoadedConfig;
  readonly health: () => Health;
  readonly examine: () => Promise<Finding[]>;
}

/** What nobody sets and everybody wants to know beside the settings. */
function found(api: ReturnType<SystemDeps['api']>) {
  if (api === null) return [];
  const { address, fingerprint, certificateUntil } = api;
  return Object.entries({ address, fingerprint, certificate_until: certificateUntil }).map(
    ([key, value]) => ({
      ...{ key: `api.${key}`, value, origin: 'running' },
    }),
  );
}

export function systemRoutes(deps: SystemDeps): Route[] {
  const { catalog, loaded } = deps;
  return [
    defineRoute({
      method: 'get',
      path: '/health',
      tag: 'system',
      summary: 'State of the daemon and its tools',
      access: { role: 'viewer', about: 'none' },
      answer: z.looseObject({ status: z.string() }),
      handle: async () => deps.health(),
    }),
    defineRoute({
      method: 'get',
      path: '/doctor',
      tag: 'system',
      summary: 'Checks of everything that backups and restores need',
      access: { role: 'operator', about: 'appliance' },
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
      access: { role: 'operator', about: 'appliance' },
      answer: z.object({
        settings: z.array(z.object({ key: z.string(), value: z.unknown(), origin: z.string() })),
      }),
      handle: async () => ({
        settings: [
          ...Object.entries(loaded.config).flatMap(([section, values]) =>
            Object.entries(values).map(([key, value]) => ({
              key: `${section}.${key}`,
              value,
              origin: loaded.origins.get(`${section}.${key}`) ?? 'default',
            })),
          ),
          ...found(deps.api()),
        ],
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/events',
      tag: 'system',
      summary: 'What happened, newest first',
      access: { role: 'viewer', about: 'appliance' },
      query: z.strictObject({
        limit,
        before: queryNumber(1, Number.MAX_SAFE_INTEGER).optional(),
        requests: flag.meta({ description: 'Also the requests that changed something' }),
      }),
      answer: z.object({
        events: z.array(z.looseObject({ id: z.number(), kind: z.string(), message: z.string() })),
      }),
      handle: async ({ query }) => ({
        events: catalog.events.list(query.limit, query.before ?? null, query.requests),
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/events/verify',
      tag: 'system',
      summary: 'Whether the log of events is as it was written',
      access: { role: 'viewer', about: 'appliance' },
      query: z.strictObject({
        anchor: z
          .string()
          .regex(/^\d{1,15}:[0-9a-f]{64}$/, 'ID:HASH, as `events verify` printed it earlier')
          .optional(),
      }),
      answer: z.object({
        ok: z.boolean(),
        rows: z.number(),
        head: z.object({ id: z.number(), hash: z.string() }),
        anchor: z.object({ id: z.number(), hash: z.string(), at: z.string() }).nullable(),
        problems: z.array(z.object({ id: z.number(), problem: z.string(), detail: z.string() })),
      }),
      handle: async ({ query }) => {
        const [id, hash] = query.anchor?.split(':') ?? [];
        const kept =
          id === undefined || hash === undefined ? null : { id: Number(id), hash, at: 'some earlier time' };
        const report = await catalog.events.verify(kept);
        return { ok: report.problems.length === 0, ...report };
      },
    }),
  ];
}
