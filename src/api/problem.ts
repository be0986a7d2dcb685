import type { Response } from 'express';
import type { Logger } from '../base/logger.ts';
import { toSendenseError } from '../base/sendense-error.ts';
import { toWire } from './wire.ts';

/** When to ask again after a limit, seconds: downloads and mounts take their time. */
const RETRY_AFTER_S = 5;

/** Answers with RFC 9457 problem details; `code` is the stable name that programs look at. */
export function sendProblem(response: Response, error: unknown, logger: Logger): void {
  const failure = toSendenseError(error);
  if (failure.entry.kind === 'bug')
    logger.error({ err: failure.cause ?? failure }, 'a request failed unexpectedly');
  if (response.headersSent) {
    // the stream broke half-way: cutting the connection is the only way left to say so
    response.destroy();
    return;
  }
  const body = {
    type: `urn:sendense:error:${failure.code}`,
    title: failure.message,
    status: failure.entry.http,
    detail: failure.hint,
    code: failure.code,
    retryable: failure.entry.retryable,
    fields: toWire(failure.fields),
  };
  if (failure.entry.http === 429 && !response.hasHeader('Retry-After'))
    response.set('Retry-After', String(RETRY_AFTER_S));
  response.status(failure.entry.http).type('application/problem+json').send(JSON.stringify(body));
}
