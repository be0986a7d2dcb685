import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import express, { type Express, type Request, type Response } from 'express';
import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { SendenseError } from '../base/sendense-error.ts';
import type { IdempotencyQueries } from '../catalog/idempotency.ts';
import { onlyOnce } from './idempotency.ts';
import { openApiDocument } from './openapi.ts';
import { sendProblem } from './problem.ts';
import { type Answer, type Route, streamed } from './route.ts';
import { toWire } from './wire.ts';

interface ServerDeps {
  readonly logger: Logger;
  readonly clock: Clock;
  readonly idempotency: IdempotencyQueries;
  readonly version: string;
}

/** All requests are small; files go out, never in. */
const MAX_BODY = '256kb';
const base = '/api/v1';

function parse(
  schema: z.ZodType<Record<string, unknown>> | undefined,
  value: unknown,
  where: string,
): Record<string, unknown> {
  if (!schema) return {};
  const parsed = schema.safeParse(value ?? {});
  if (parsed.success) return parsed.data;
  throw new SendenseError('REQUEST_INVALID', {
    detail: `${where}: ${z.prettifyError(parsed.error).replaceAll('\n', ' ').replace('✖ ', '')}`,
  });
}

async function serve(deps: ServerDeps, route: Route, request: Request, response: Response): Promise<void> {
  const input = {
    params: parse(route.params, request.params, 'path'),
    query: parse(route.query, request.query, 'query'),
    body: parse(route.body, request.body, 'body'),
    request,
    response,
  };
  const run = async (): Promise<Answer> => {
    const result = await route.handle(input as never);
    return {
      status: result === streamed ? 0 : route.status,
      body: result === streamed ? streamed : toWire(result),
    };
  };
  const answer = await onlyOnce(deps.idempotency, deps.clock, request, run);
  if (answer.body === streamed) return;
  if (answer.status === 204) response.status(204).end();
  else response.status(answer.status).json(answer.body);
}

/** The express application that serves these routes, their OpenAPI document and Swagger UI. */
export function createServer(deps: ServerDeps, routes: readonly Route[]): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.use((_request, response, next) => {
    response.set({ 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store' });
    next();
  });
  app.use(express.json({ limit: MAX_BODY, strict: true }));
  const document = openApiDocument(routes, deps.version);
  app.get(`${base}/openapi.json`, (_request, response) => void response.json(document));
  const swagger = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
  app.get('/api/docs', (_request, response) => void response.type('html').send(docsPage));
  app.use('/api/docs', express.static(swagger, { index: false }));
  for (const route of routes) {
    app[route.method](
      base + route.path.replace(/\{(\w+)\}/g, ':$1'),
      (request: Request, response: Response) => {
        serve(deps, route, request, response).catch((error: unknown) =>
          sendProblem(response, error, deps.logger),
        );
      },
    );
  }
  app.use((request, response) =>
    sendProblem(
      response,
      new SendenseError('ROUTE_UNKNOWN', { method: request.method, path: request.path.slice(0, 200) }),
      deps.logger,
    ),
  );
  app.use((error: unknown, _request: Request, response: Response, _next: unknown) => {
    // express and its body parser mark what the client did wrong with a 4xx status
    const status = error instanceof Error && 'status' in error ? Number(error.status) : 500;
    const shown =
      status >= 400 && status < 500 && error instanceof Error
        ? new SendenseError('REQUEST_INVALID', { detail: error.message })
        : error;
    sendProblem(response, shown, deps.logger);
  });
  return app;
}

const docsPage = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sendense API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css"></head><body><div id="ui"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({ url: '/api/v1/openapi.json', dom_id: '#ui' })</script></body></html>`;
