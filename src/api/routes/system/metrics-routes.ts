import { z } from 'zod';
import type { Metrics } from '../../metrics/metrics.ts';
import { defineRoute, type Route, streamed } from '../../route.ts';

/** For Prometheus; what the names mean is in docs/metrics.md. */
export function metricsRoutes(metrics: Metrics): Route[] {
  return [
    defineRoute({
      method: 'get',
      path: '/metrics',
      tag: 'system',
      summary: 'Metrics in the text format of Prometheus',
      access: { role: 'viewer', about: 'appliance' },
      answer: z.string(),
      handle: async ({ response }) => {
        const text = await metrics.text();
        response.set('Content-Type', metrics.contentType).send(text);
        return streamed;
      },
    }),
  ];
}
