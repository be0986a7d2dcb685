import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import express, { type Express, type Request, type Response } from 'express';
import type { Logger } from '../base/logger.ts';
import { SendenseError } from '../base/sendense-error.ts';
import type { Caller } from './access/caller.ts';
import type { Gate } from './access/gate.ts';
import { openApiDocument } from './openapi.ts';
import { sendProblem } from './problem.ts';
import type { Route } from './route.ts';
import { type ServeDeps, serveRoute } from './serve-route.ts';

interface ServerDeps extends ServeDeps {
  readonly gate: Gate;
  readonly version: string;
}

/** All requests are small; files go out, never in. */
const MAX_BODY_BYTES = 256 * 1024;
const base = '/api/v1';

/** The express application that serves these routes, their OpenAPI document and Swagger UI. */
export function createServer(deps: ServerDeps, routes: readonly Route[]): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.disable('etag'); // nothing is kept by clients, and long answers take long to digest
  app.use((_request, response, next) => {
    response.set({ 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store' });
    next();
  });
  const callers = new WeakMap<Request, Caller>();
  // before anything of the request is read; pages outside hold nothing but our own programs
  app.use(base, (request, response, next) => {
    deps.gate.admit(request, response).then((caller) => {
      callers.set(request, caller);
      next();
    }, next);
  });
  app.use(express.json({ limit: MAX_BODY_BYTES, strict: true }));
  // made when somebody asks: it takes a tenth of the start
  let document: ReturnType<typeof openApiDocument> | null = null;
  const documentPath = `${base}/openapi.json`;
  app.get(documentPath, (_request, response) => {
    document ??= openApiDocument(routes, deps.version);
    response.json(document);
  });
  app.all(documentPath, onlyMethods(['GET', 'HEAD'], deps.logger));
  const swagger = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
  app.get('/api/docs', (_request, response) => void response.type('html').send(docsPage));
  app.use('/api/docs', express.static(swagger, { index: false }));
  for (const [path, methods] of byPath(routes)) {
    const place = base + path.replace(/\{(\w+)\}/g, ':$1');
    for (const route of methods) {
      app[route.method](place, (request: Request, response: Response) => {
        const caller = callers.get(request);
        if (caller === undefined) throw new SendenseError('TOKEN_NEEDED', { detail: 'nobody was let in' });
        serveRoute(deps, route, caller, request, response).catch((error: unknown) =>
          sendProblem(response, error, deps.logger),
        );
      });
    }
    const allowed = methods.map((route) => route.method.toUpperCase());
    app.all(place, onlyMethods(allowed.includes('GET') ? [...allowed, 'HEAD'] : allowed, deps.logger));
  }
  app.use((request, response) =>
    sendProblem(
      response,
      new SendenseError('ROUTE_UNKNOWN', { method: request.method, path: request.path.slice(0, 200) }),
      deps.logger,
    ),
  );
  app.use((error: unknown, _request: Request, response: Response, _next: unknown) => {
    sendProblem(
      response,
      error instanceof SendenseError ? error : (clientFault(error) ?? error),
      deps.logger,
    );
  });
  return app;
}

/** Routes by path, named places before those that take any name: `/backup/list` is no id. */
function byPath(routes: readonly Route[]): [string, Route[]][] {
  const sortKey = (path: string) => path.replace(/\{\w+\}/g, '\uffff');
  return Object.entries(Object.groupBy(routes, (route) => route.path))
    .map(([path, methods]): [string, Route[]] => [path, methods ?? []])
    .toSorted(([a], [b]) => (sortKey(a) < sortKey(b) ? -1 : 1));
}

/** Answers every method that has no route of its own. */
const onlyMethods =
  (allowed: readonly string[], logger: Logger) =>
  (request: Request, response: Response): void => {
    response.set('Allow', allowed.join(', '));
    if (request.method === 'OPTIONS') return void response.status(204).end();
    const fields = { method: request.method, path: request.path.slice(0, 200), allowed };
    sendProblem(response, new SendenseError('METHOD_WRONG', fields), logger);
  };

/** What express and its body parser mark with a 4xx status as the client's doing. */
function clientFault(error: unknown): SendenseError | null {
  if (!(error instanceof Error) || !('status' in error)) return null;
  const status = Number(error.status);
  if (status < 400 || status >= 500) return null;
  if (status === 413) return new SendenseError('REQUEST_TOO_LARGE', { limit: MAX_BODY_BYTES });
  const isJson = 'type' in error && error.type === 'entity.parse.failed';
  return new SendenseError('REQUEST_INVALID', {
    detail: isJson ? `the body is no JSON: ${error.message}` : error.message,
  });
}

const docsPage = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sendense API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css"></head><body><div id="ui"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({ url: '/api/v1/openapi.json', dom_id: '#ui' })</script></body></html>`;
