import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { errnoOf } from '../../../base/sendense-error.ts';
import { type BundleDeps, supportBundle } from '../../../jobs/support/bundle.ts';
import { defineRoute, type Route, streamed } from '../../route.ts';

/** For who is to find out what is wrong. */
export function supportRoutes(deps: BundleDeps): Route[] {
  return [
    defineRoute({
      method: 'get',
      path: '/support-bundle',
      tag: 'system',
      summary: 'Versions, settings, checks, events, jobs and log as a tar.zst; no secrets',
      access: { role: 'operator', about: 'appliance' },
      answer: z.unknown(),
      handle: async ({ response }) => {
        const gone = new AbortController();
        response.once('close', () => gone.abort());
        const bundle = await supportBundle(deps, gone.signal);
        response.set('Content-Type', 'application/zstd');
        await pipeline(bundle, response).catch((error: unknown) => {
          if (errnoOf(error) !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
        });
        return streamed;
      },
    }),
  ];
}
