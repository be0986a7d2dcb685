import { z } from 'zod';
import type { LoadedConfig } from '../base/load-config.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Repositories } from '../jobs/repositories.ts';
import { confirmRepository, repositorySpace } from '../repository/open-repository.ts';
import { testWrite } from '../repository/publish-backup.ts';
import { defineRoute, type Route } from './route.ts';
import { limit, path, repositoryName } from './schemas.ts';

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
}

interface SystemDeps {
  readonly catalog: Catalog;
  readonly repositories: Repositories;
  readonly loaded: LoadedConfig;
  readonly health: () => Health;
}

export function systemRoutes(deps: SystemDeps): Route[] {
  const { catalog, repositories, loaded } = deps;
  const params = z.object({ repository: repositoryName });
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
      query: z.strictObject({ limit, before: z.coerce.number().int().min(1).optional() }),
      answer: z.object({
        events: z.array(z.looseObject({ id: z.number(), kind: z.string(), message: z.string() })),
      }),
      handle: async ({ query }) => ({ events: catalog.events.list(query.limit, query.before ?? null) }),
    }),
    defineRoute({
      method: 'get',
      path: '/repositories',
      tag: 'repositories',
      summary: 'All repositories with their space',
      answer: z.object({ repositories: z.array(z.looseObject({ name: z.string(), path: z.string() })) }),
      handle: async () => ({
        repositories: await Promise.all(
          repositories.all().map(async (repository) => ({
            id: repository.id,
            name: repository.name,
            type: 'local',
            path: repository.root,
            ...(await repositorySpace(repository.root)),
          })),
        ),
      }),
    }),
    defineRoute({
      method: 'post',
      path: '/repositories',
      tag: 'repositories',
      status: 201,
      summary: 'Add a folder as repository',
      body: z.strictObject({ name: repositoryName, path }),
      answer: z.looseObject({ name: z.string(), path: z.string() }),
      handle: async ({ body }) => {
        const added = await repositories.add(body.name, body.path);
        return { id: added.id, name: added.name, type: 'local', path: added.root };
      },
    }),
    defineRoute({
      method: 'post',
      path: '/repositories/{repository}/test',
      tag: 'repositories',
      summary: 'Prove that a repository can be written',
      params,
      answer: z.looseObject({ ok: z.boolean() }),
      handle: async ({ params: { repository } }) => {
        const found = repositories.byName(repository);
        await confirmRepository(found);
        await testWrite(found.root);
        return { ok: true, name: found.name, path: found.root, ...(await repositorySpace(found.root)) };
      },
    }),
  ];
}
