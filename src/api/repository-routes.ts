import { z } from 'zod';
import { attachRepository } from '../jobs/attach-repository.ts';
import { listOrphans, removeOrphans } from '../jobs/orphans/orphans.ts';
import { type RebuildDeps, startRebuild } from '../jobs/rebuild/start-rebuild.ts';
import { type RemoveRepositoryDeps, removeRepository } from '../jobs/remove-repository.ts';
import { confirmRepository, type Repository, repositorySpace } from '../repository/open-repository.ts';
import { testWrite } from '../repository/publish-backup.ts';
import { defineRoute, type Route } from './route.ts';
import { flag, jobAnswer, path, repositoryName } from './schemas.ts';
import { jobView } from './views.ts';

const tag = 'repositories';
const params = z.object({ repository: repositoryName });
const repositoryAnswer = z.looseObject({
  name: z.string(),
  path: z.string(),
  total_bytes: z.number(),
  available_bytes: z.number(),
});

const repositoryView = async (repository: Repository) => ({
  id: repository.id,
  name: repository.name,
  type: 'local',
  path: repository.root,
  compression: repository.compression,
  ...(await repositorySpace(repository.root)),
});

const orphansAnswer = z.object({
  plan: z.string(),
  orphans: z.array(
    z.object({
      path: z.string(),
      kind: z.string(),
      bytes: z.number(),
      modified_at: z.string(),
      keep: z.string().nullable(),
    }),
  ),
  total_bytes: z.number(),
  busy_machines: z.array(z.string()),
  is_cut: z.boolean(),
});

export function repositoryRoutes(deps: RemoveRepositoryDeps & RebuildDeps): Route[] {
  const { repositories } = deps;
  return [
    defineRoute({
      method: 'get',
      path: '/repositories',
      tag,
      summary: 'All repositories with their space',
      answer: z.object({ repositories: z.array(repositoryAnswer) }),
      handle: async () => ({ repositories: await Promise.all(repositories.all().map(repositoryView)) }),
    }),
    defineRoute({
      method: 'post',
      path: '/repositories',
      tag,
      status: 201,
      summary: 'Add a folder as repository',
      body: z.strictObject({ name: repositoryName, path }),
      answer: repositoryAnswer,
      handle: async ({ body }) => repositoryView(await repositories.add(body.name, body.path)),
    }),
    defineRoute({
      method: 'patch',
      path: '/repositories/{repository}',
      tag,
      summary: 'Change how a repository keeps its layers',
      params,
      body: z.strictObject({
        compression: z
          .enum(['none', 'zstd'])
          .meta({ description: 'Whether layers are compressed in the background after they were sealed' }),
      }),
      answer: repositoryAnswer,
      handle: async ({ params: { repository }, body }) =>
        repositoryView(await repositories.setCompression(repository, body.compression)),
    }),
    defineRoute({
      method: 'delete',
      path: '/repositories/{repository}',
      tag,
      summary: 'Forget a repository; its files stay',
      params,
      query: z.strictObject({ keep_backups: flag }),
      answer: z.object({ name: z.string(), path: z.string(), backups: z.number(), removed: z.boolean() }),
      handle: async ({ params: { repository }, query }) => ({
        ...removeRepository(deps, repository, query.keep_backups),
        removed: true,
      }),
    }),
    defineRoute({
      method: 'post',
      path: '/repositories/{repository}/test',
      tag,
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
    defineRoute({
      method: 'post',
      path: '/repositories/attach',
      tag,
      status: 201,
      summary: 'Take a repository that is there already, perhaps of another appliance',
      body: z.strictObject({ name: repositoryName, path }),
      answer: repositoryAnswer.extend({ machines: z.number(), backups: z.number() }),
      handle: async ({ body }) => {
        const { repository, ...counts } = await attachRepository(deps, body.name, body.path);
        return { ...(await repositoryView(repository)), ...counts };
      },
    }),
    defineRoute({
      method: 'post',
      path: '/repositories/{repository}/rebuild',
      tag,
      status: 202,
      summary: 'Make the rows of the catalogue anew from the files of a repository',
      params,
      answer: jobAnswer,
      handle: async ({ params: { repository } }) => jobView(startRebuild(deps, repository)),
    }),
    defineRoute({
      method: 'get',
      path: '/repositories/{repository}/orphans',
      tag,
      summary: 'What lies in a repository that nothing needs',
      params,
      answer: orphansAnswer,
      handle: async ({ params: { repository } }) => listOrphans(deps, repository),
    }),
    defineRoute({
      method: 'post',
      path: '/repositories/{repository}/orphans/remove',
      tag,
      summary: 'Remove exactly what a list of orphans showed',
      params,
      body: z.strictObject({ plan: z.string().regex(/^[0-9a-f]{12}$/, 'the plan of a list of orphans') }),
      answer: z.object({ removed: z.array(z.string()), freed_bytes: z.number() }),
      handle: async ({ params: { repository }, body }) => removeOrphans(deps, repository, body.plan),
    }),
  ];
}
