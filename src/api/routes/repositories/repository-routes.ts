import { z } from 'zod';
import { SendenseError } from '../../../base/sendense-error.ts';
import { listOrphans, removeOrphans } from '../../../jobs/orphans/orphans.ts';
import { type RebuildDeps, startRebuild } from '../../../jobs/rebuild/start-rebuild.ts';
import { attachRepository } from '../../../jobs/repository/attach-repository.ts';
import { detachRepository } from '../../../jobs/repository/detach-repository.ts';
import { type RemoveRepositoryDeps, removeRepository } from '../../../jobs/repository/remove-repository.ts';
import type { KnownRepository } from '../../../jobs/repository/repositories.ts';
import type { RepositoryKeeper } from '../../../jobs/repository/repository-keeper.ts';
import { type SpaceDeps, spaceReport } from '../../../jobs/repository/track-space.ts';
import {
  compressionOf,
  confirmWritable,
  repositorySpace,
  writeCompression,
} from '../../../repository/open-repository.ts';
import { testWrite } from '../../../repository/publish-backup.ts';
import { defineRoute, type Route } from '../../route.ts';
import { flag, jobAnswer, path, repositoryName } from '../../schemas.ts';
import { jobView } from '../../views.ts';

const tag = 'repositories';
const params = z.object({ repository: repositoryName });
const bytes = z.number().nullable();
const repositoryAnswer = z.looseObject({
  name: z.string(),
  path: z.string(),
  mount: z.string().nullable(),
  compression: z.enum(['none', 'zstd']).nullable(),
  state: z.enum(['ready', 'read-only', 'away']),
  reason: z.string().nullable(),
  since: z.string(),
  total_bytes: bytes,
  available_bytes: bytes,
  used_bytes: z.number(),
  growth_bytes_per_day: bytes,
  full_at: z.string().nullable(),
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

export function repositoryRoutes(
  deps: RemoveRepositoryDeps & RebuildDeps & SpaceDeps & { readonly keeper: RepositoryKeeper },
): Route[] {
  const { keeper, repositories } = deps;
  const repositoryView = async (known: KnownRepository) => {
    const { repository, ...state } = known;
    const { id, name, root, mount } = repository;
    // one that went away this moment is told as away by the next look
    const compression = known.state === 'away' ? null : await compressionOf(repository).catch(() => null);
    const space = await spaceReport(deps, known);
    return { id, name, type: 'local', path: root, mount, compression, ...state, ...space };
  };
  const viewOf = async (name: string) => {
    const found = repositories.known().find(({ repository }) => repository.name === name);
    if (!found) throw new SendenseError('REPOSITORY_UNKNOWN', { repository: name });
    return await repositoryView(found);
  };
  return [
    defineRoute({
      method: 'get',
      path: '/repositories',
      tag,
      summary: 'All repositories with their state and space, also those that are away',
      access: { role: 'viewer', about: 'appliance' },
      answer: z.object({ repositories: z.array(repositoryAnswer) }),
      handle: async () => ({ repositories: await Promise.all(repositories.known().map(repositoryView)) }),
    }),
    defineRoute({
      method: 'get',
      path: '/repositories/{repository}',
      tag,
      summary: 'One repository',
      access: { role: 'viewer', about: 'appliance' },
      params,
      answer: repositoryAnswer,
      handle: ({ params: { repository } }) => viewOf(repository),
    }),
    defineRoute({
      method: 'post',
      path: '/repositories',
      tag,
      status: 201,
      summary: 'Add a folder as repository',
      access: { role: 'admin', about: 'appliance' },
      body: z.strictObject({
        name: repositoryName,
        path,
        mount: z
          .union([z.literal('auto'), path.startsWith('/')])
          .optional()
          .meta({
            description: 'The mount point on which it must lie, or `auto`; absent: as it lies now',
          }),
        mount_check: z
          .boolean()
          .default(true)
          .meta({ description: 'False: it may lie anywhere, mounted or not' }),
      }),
      answer: repositoryAnswer,
      handle: async ({ body }) => {
        if (body.mount !== undefined && !body.mount_check)
          throw new SendenseError('REQUEST_INVALID', {
            detail: 'mount names a mount point and mount_check is false',
          });
        const wish = body.mount_check ? (body.mount ?? 'decide') : 'none';
        const { name } = await keeper.add(body.name, body.path, wish);
        return await viewOf(name);
      },
    }),
    defineRoute({
      method: 'patch',
      path: '/repositories/{repository}',
      tag,
      summary: 'Change how a repository keeps its layers',
      access: { role: 'admin', about: 'appliance' },
      params,
      body: z.strictObject({
        compression: z
          .enum(['none', 'zstd'])
          .meta({ description: 'Whether layers are compressed in the background after they were sealed' }),
      }),
      answer: repositoryAnswer,
      handle: async ({ params: { repository }, body }) => {
        await writeCompression(repositories.byName(repository), body.compression);
        return await viewOf(repository);
      },
    }),
    defineRoute({
      method: 'delete',
      path: '/repositories/{repository}',
      tag,
      summary: 'Forget a repository; its files stay',
      access: { role: 'admin', about: 'appliance' },
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
      path: '/repositories/{repository}/detach',
      tag,
      summary: 'Let go of a repository, so that its file system can be unmounted',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: repositoryAnswer,
      handle: async ({ params: { repository } }) => {
        detachRepository(deps, repository);
        return await viewOf(repository);
      },
    }),
    defineRoute({
      method: 'post',
      path: '/repositories/{repository}/test',
      tag,
      summary: 'Prove that a repository can be written',
      access: { role: 'operator', about: 'appliance' },
      params,
      answer: z.looseObject({ ok: z.boolean() }),
      handle: async ({ params: { repository } }) => {
        const found = repositories.byName(repository);
        await confirmWritable(found);
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
      access: { role: 'admin', about: 'appliance' },
      body: z.strictObject({ name: repositoryName, path }),
      answer: repositoryAnswer.extend({ machines: z.number(), backups: z.number() }),
      handle: async ({ body }) => {
        const { repository, ...counts } = await attachRepository(deps, body.name, body.path);
        return { ...(await viewOf(repository.name)), ...counts };
      },
    }),
    defineRoute({
      method: 'post',
      path: '/repositories/{repository}/rebuild',
      tag,
      status: 202,
      summary: 'Make the rows of the catalogue anew from the files of a repository',
      access: { role: 'operator', about: 'appliance' },
      params,
      answer: jobAnswer,
      handle: async ({ params: { repository } }) => jobView(startRebuild(deps, repository)),
    }),
    defineRoute({
      method: 'get',
      path: '/repositories/{repository}/orphans',
      tag,
      summary: 'What lies in a repository that nothing needs',
      access: { role: 'operator', about: 'appliance' },
      params,
      answer: orphansAnswer,
      handle: async ({ params: { repository } }) => listOrphans(deps, repository),
    }),
    defineRoute({
      method: 'post',
      path: '/repositories/{repository}/orphans/remove',
      tag,
      summary: 'Remove exactly what a list of orphans showed',
      access: { role: 'admin', about: 'appliance' },
      params,
      body: z.strictObject({ plan: z.string().regex(/^[0-9a-f]{12}$/, 'the plan of a list of orphans') }),
      answer: z.object({ removed: z.array(z.string()), freed_bytes: z.number() }),
      handle: async ({ params: { repository }, body }) => removeOrphans(deps, repository, body.plan),
    }),
  ];
}
