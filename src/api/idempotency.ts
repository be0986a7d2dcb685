import { createHash } from 'node:crypto';
import type { Request } from 'express';
import type { Clock } from '../base/clock.ts';
import { SendenseError } from '../base/sendense-error.ts';
import type { IdempotencyQueries } from '../catalog/idempotency.ts';
import type { Answer } from './route.ts';

/**
 * Runs a POST at most once per `Idempotency-Key`; a repeat gets the first answer again. Failures are not kept, so
 * that a repeat can succeed.
 * @throws IDEMPOTENCY_MISMATCH, IDEMPOTENCY_RUNNING
 */
export async function onlyOnce(
  store: IdempotencyQueries,
  clock: Clock,
  request: Request,
  run: () => Promise<Answer>,
): Promise<Answer> {
  const key = request.get('Idempotency-Key');
  if (key === undefined || request.method !== 'POST') return await run();
  if (!/^[\x21-\x7e]{1,200}$/.test(key))
    throw new SendenseError('REQUEST_INVALID', {
      detail: 'the Idempotency-Key has other than 1 to 200 visible characters',
    });
  const digest = createHash('sha256')
    .update(JSON.stringify([request.path, request.body ?? null]))
    .digest('hex');
  const known = store.find(key);
  if (known) {
    if (known.requestDigest !== digest) throw new SendenseError('IDEMPOTENCY_MISMATCH', { key });
    if (known.status === null || known.body === null) throw new SendenseError('IDEMPOTENCY_RUNNING', { key });
    return { status: known.status, body: JSON.parse(known.body) as unknown };
  }
  store.begin(key, digest, clock.now());
  try {
    const answer = await run();
    store.finish(key, answer.status, JSON.stringify(answer.body));
    return answer;
  } catch (error) {
    store.drop(key);
    throw error;
  }
}
