import { expect, it } from 'vitest';
import { SendenseError } from '../../base/sendense-error.ts';
import type { StorePlace } from './object-store.ts';
import { rateAt } from './pacer.ts';
import { Requests } from './requests.ts';
import { judge } from './s3-errors.ts';

const place = { endpoint: 'http://s3', bucket: 'b' } as StorePlace;
const failure = (status: number, name: string, message = '') =>
  Object.assign(new Error(message), { name, $metadata: { httpStatusCode: status } });

it.each([
  [failure(503, 'SlowDown'), 'MIRROR_THROTTLED', true, true],
  [failure(403, 'AccessDenied', 'Please reduce your request rate'), 'MIRROR_THROTTLED', true, true],
  [failure(429, 'TooMany'), 'MIRROR_THROTTLED', true, true],
  [failure(403, 'AccessDenied'), 'MIRROR_DENIED', false, false],
  [failure(403, 'SignatureDoesNotMatch'), 'MIRROR_CREDENTIALS', false, false],
  [failure(403, 'RequestTimeTooSkewed'), 'MIRROR_CLOCK', false, false],
  [failure(403, 'QuotaExceeded'), 'MIRROR_FULL', false, false],
  [failure(404, 'NoSuchBucket'), 'MIRROR_BUCKET_MISSING', false, false],
  [failure(404, 'NoSuchKey'), 'MIRROR_OBJECT_MISSING', false, false],
  [failure(412, 'PreconditionFailed'), 'MIRROR_CONFLICT', false, false],
  [failure(500, 'InternalError'), 'MIRROR_FAILED', true, false],
  [failure(400, 'InvalidRequest'), 'MIRROR_FAILED', false, false],
  [Object.assign(new Error('reset'), { code: 'ECONNRESET' }), 'MIRROR_UNREACHABLE', true, false],
  [Object.assign(new Error('no name'), { code: 'ENOTFOUND' }), 'MIRROR_UNREACHABLE', false, false],
  [new SendenseError('CANCELLED'), 'CANCELLED', false, false],
])('%s is %s; again: %s, slower: %s', (thrown, code, retry, slower) => {
  const verdict = judge(thrown, place, 'reading x', 'x');
  expect([verdict.error.code, verdict.retry, verdict.slower]).toEqual([code, retry, slower]);
});

it('sends fewer at once to a server that complains, and more again later', async () => {
  const requests = new Requests(undefined, 2);
  const before = requests.allowed;
  let running = 0;
  let most = 0;
  const fine = async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setTimeout(resolve, 1));
    running -= 1;
  };
  await Promise.all(Array.from({ length: 100 }, () => requests.run(place, 'reading', 'x', fine)));
  expect(most).toBe(before);
  const slow = () => Promise.reject(failure(503, 'SlowDown'));
  await expect(requests.run(place, 'reading', 'x', slow)).rejects.toMatchObject({ code: 'MIRROR_THROTTLED' });
  expect(requests.allowed).toBe(before / 4);
  expect(requests.counts.retries).toBe(1);
  most = 0;
  await Promise.all(Array.from({ length: 15 }, () => requests.run(place, 'reading', 'x', fine)));
  expect(most).toBe(before / 4);
  await Promise.all(Array.from({ length: 200 }, () => requests.run(place, 'reading', 'x', fine)));
  expect(requests.allowed).toBeGreaterThan(before / 4);
});

it('does not send again what cannot get better', async () => {
  let sent = 0;
  const wrong = () => {
    sent += 1;
    return Promise.reject(failure(403, 'SignatureDoesNotMatch'));
  };
  await expect(new Requests().run(place, 'reading', 'x', wrong)).rejects.toMatchObject({
    code: 'MIRROR_CREDENTIALS',
  });
  expect(sent).toBe(1);
});

it('has a speed for each time of day, also over midnight', () => {
  const limit = {
    mibPerSecond: 50,
    windows: [
      { fromMinute: 8 * 60, toMinute: 18 * 60, mibPerSecond: 5 },
      { fromMinute: 23 * 60, toMinute: 2 * 60, mibPerSecond: 0 },
    ],
  };
  const at = (hour: number, minute = 0) => rateAt(limit, new Date(2026, 10, 20, hour, minute));
  expect([at(7, 59), at(8), at(17, 59), at(18)]).toEqual([50, 5, 5, 50]);
  expect([at(22, 59), at(23), at(0), at(1, 59), at(2)]).toEqual([50, 0, 0, 0, 50]);
});
