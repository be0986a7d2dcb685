import { createHash } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { SendenseError } from '../base/sendense-error.ts';
import type { IdempotencyQueries } from '../catalog/idempotency.ts';
import type { Answer, Route } from './route.ts';

export interface KeyedRequest {
  readonly key: string | undefined;
  /** Keys of different callers are different keys. */
  readonly callerId: string;
  readonly route: Route;
  readonly path: string;
  readonly body: unknown;
}

/**
 * Runs a POST at most once per `Idempotency-Key`; a repeat gets the first answer again. Failures are not kept, so
 * that a repeat can succeed.
 * @throws IDEMPOTENCY_MISMATCH, IDEMPOTENCY_RUNNING
 */
export async function onlyOnce(
  store: IdempotencyQueries,
  clock: Clock,
  { key, callerId, route, path, body }: KeyedRequest,
  run: () => Promise<Answer>,
): Promise<Answer> {
  if (key === undefined || route.method !== 'post') return await run();
  if (!/^[\x21-\x7e]{1,200}$/.test(key))
    throw new SendenseError('REQUEST_INVALID', {
      detail: 'the Idempotency-Key has other than 1 to 200 visible characters',
    });
  const digest = createHash('sha256')
    .update(JSON.stringify([path, body ?? null]))
    .digest('hex');
  const stored = `${callerId} ${key}`;
  const known = store.find(stored);
  if (known) {
    if (known.requestDigest !== digest) throw new SendenseError('IDEMPOTENCY_MISMATCH', { key });
    if (known.status === null || known.body === null) throw new SendenseError('IDEMPOTENCY_RUNNING', { key });
    return { status: known.status, body: JSON.parse(known.body) as unknown };
  }
  store.begin(stored, digest, clock.now());
  try {
    const answer = await run();
    store.finish(stored, answer.status, JSON.stringify(withoutSecrets(answer.body, route)));
    return answer;
  } catch (error) {
    store.drop(stored);
    throw error;
  }
}

/** What is kept of an answer. */
function withoutSecrets(body: unknown, { secretFields = [] }: Route): unknown {
  if (secretFields.length === 0 || body === null || typeof body !== 'object') return body;
  return { ...body, ...Object.fromEntries(secretFields.map((name) => [name, null])) };
}
