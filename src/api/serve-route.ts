import type { Request, Response } from 'express';
import type { z } from 'zod';
import { actingAs } from '../base/actor.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { parseInput } from '../base/parse-input.ts';
import { SendenseError, toSendenseError } from '../base/sendense-error.ts';
import type { EventLog } from '../catalog/events/events.ts';
import type { IdempotencyQueries } from '../catalog/idempotency.ts';
import { auditRequest } from './access/audit-request.ts';
import type { Caller } from './access/caller.ts';
import { confirmRole, confirmSubjects, type SubjectDeps } from './access/subjects.ts';
import { onlyOnce } from './idempotency.ts';
import { type Answer, type Route, streamed } from './route.ts';
import { toWire } from './wire.ts';

export interface ServeDeps {
  readonly logger: Logger;
  readonly clock: Clock;
  readonly idempotency: IdempotencyQueries;
  readonly events: EventLog;
  readonly subjects: SubjectDeps;
}

function parse(
  schema: z.ZodType<Record<string, unknown>> | undefined,
  value: unknown,
  where: string,
): Record<string, unknown> {
  if (!schema) return {};
  return parseInput(schema, value ?? {}, where, (detail) => new SendenseError('REQUEST_INVALID', { detail }));
}

/** Checks who asks and what is asked, answers, and tells the audit. */
export async function serveRoute(
  deps: ServeDeps,
  route: Route,
  caller: Caller,
  request: Request,
  response: Response,
): Promise<void> {
  const tell = (outcome: Parameters<typeof auditRequest>[3]) => {
    if (route.method === 'get') return;
    try {
      auditRequest(deps.events, request, [request.params, request.query, request.body], outcome);
    } catch (error) {
      // on a full disk what was asked, perhaps to make room, is done nevertheless: the log is the only place left
      const { method, path } = request;
      deps.logger.error(
        { err: error, method, path, status: outcome.status },
        'a request is not in the audit',
      );
    }
  };
  await actingAs({ who: caller.who, from: caller.from }, async () => {
    let answer: Answer;
    try {
      answer = await answerOf(deps, route, caller, request, response);
    } catch (error) {
      tell({ status: toSendenseError(error).entry.http, error });
      throw error;
    }
    tell({ status: answer.status, answer: answer.body });
    if (answer.body === streamed) return;
    if (answer.status === 204) response.status(204).end();
    else response.status(answer.status).json(answer.body);
  });
}

async function answerOf(
  deps: ServeDeps,
  route: Route,
  caller: Caller,
  request: Request,
  response: Response,
): Promise<Answer> {
  confirmRole(caller, route.access);
  // form data, as curl sends it unasked, would look like an empty body
  if (route.body && request.is('json') === false)
    throw new SendenseError('REQUEST_INVALID', {
      detail: `the body is ${request.get('Content-Type') ?? 'of unknown type'}; it must be application/json`,
    });
  const parts = [
    parse(route.params, request.params, 'the path'),
    parse(route.query, request.query, 'the query'),
    parse(route.body, request.body, 'the body'),
  ];
  const [params, query, body] = confirmSubjects(deps.subjects, caller, route.access, parts);
  const input = { params, query, body, caller, request, response };
  const run = async (): Promise<Answer> => {
    const result = await route.handle(input as never);
    return {
      status: result === streamed ? 0 : route.status,
      body: result === streamed ? streamed : toWire(result),
    };
  };
  const keyed = {
    ...{ key: request.get('Idempotency-Key'), callerId: caller.id, route },
    ...{ path: request.path, body: request.body as unknown },
  };
  return await onlyOnce(deps.idempotency, deps.clock, keyed, run);
}
