import { z } from 'zod';
import { type RemoveRepositoryDeps, removeRepository } from '../jobs/remove-repository.ts';
import { confirmRepository, type Repository, repositorySpace } from '../repository/open-repository.ts';
import { testWrite } from '../repository/publish-backup.ts';
import { defineRoute, type Route } from './route.ts';
import { flag, path, repositoryName } from './schemas.ts';

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

export function repositoryRoutes(deps: RemoveRepositoryDeps): Route[] {
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
  ];
}
