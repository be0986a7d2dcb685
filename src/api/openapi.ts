import { z } from 'zod';
import { createDocument, type ZodOpenApiOperationObject, type ZodOpenApiPathsObject } from 'zod-openapi';
import type { Route } from './route.ts';

const problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  code: z.string().meta({ description: 'Stable name of the error; docs/errors.md lists them.' }),
  retryable: z.boolean(),
  fields: z.record(z.string(), z.unknown()),
});

const asList = (about: string | readonly string[]): readonly string[] =>
  typeof about === 'string' ? [about] : about;

function operation(route: Route): ZodOpenApiOperationObject {
  const hasBody = route.status !== 204;
  return {
    summary: route.summary,
    tags: [route.tag],
    security: [{ token: [] }],
    'x-sendense-role': route.access.role,
    'x-sendense-about': [...asList(route.access.about)],
    requestParams: {
      ...(route.params ? { path: route.params as never } : {}),
      ...(route.query ? { query: route.query as never } : {}),
      ...(route.method === 'post' ? { header: z.object({ 'Idempotency-Key': z.string().optional() }) } : {}),
    },
    ...(route.body ? { requestBody: { content: { 'application/json': { schema: route.body } } } } : {}),
    responses: {
      [String(route.status)]: {
        description: 'Done',
        ...(hasBody ? { content: { 'application/json': { schema: route.answer } } } : {}),
      },
      default: { description: 'A problem', content: { 'application/problem+json': { schema: problem } } },
    },
  };
}

/** The OpenAPI document of all routes, from the schemas that validate the requests. */
export function openApiDocument(routes: readonly Route[], version: string) {
  const paths: ZodOpenApiPathsObject = {};
  for (const route of routes) paths[route.path] = { ...paths[route.path], [route.method]: operation(route) };
  return createDocument({
    openapi: '3.1.0',
    info: {
      title: 'Sendense',
      version,
      description: 'Backups of virtual machines as plain qcow2 chains.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/api/v1' }],
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'Over TCP; the unix socket needs none.' },
      },
    },
    paths,
  });
}
