import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { request as plain } from 'node:http';
import { request as secure } from 'node:https';
import { messageOf } from '../../base/sendense-error.ts';
import type { WebhookPlace } from '../../catalog/events/notifications.ts';
import { documentOf, type Message, type SendFailure } from './message.ts';
import { secretOf } from './secret-of.ts';

const TIMEOUT_MS = 15_000;

/** `v1=` and HMAC-SHA256 over the time and the body: who has the secret knows that both are ours. Pure. */
export const signatureOf = (secret: string, timestamp: string, body: string): string =>
  `v1=${createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')}`;

/**
 * Posts one event. Redirections are not followed: the signature is for the place that the operator named.
 * @returns null when it arrived
 */
export async function sendWebhook(
  place: WebhookPlace,
  message: Message,
  now: Date,
): Promise<SendFailure | null> {
  const url = new URL(place.url ?? (await secretOf(place.urlFile ?? '')));
  const secret = await secretOf(place.secretFile);
  const ca = place.caFile === null ? null : await readFile(place.caFile, 'utf8');
  const body = JSON.stringify(documentOf(message));
  const timestamp = String(Math.floor(now.getTime() / 1000));
  const headers = {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    'User-Agent': 'sendense',
    'X-Sendense-Delivery': message.deliveryId,
    'X-Sendense-Timestamp': timestamp,
    'X-Sendense-Signature': signatureOf(secret, timestamp, body),
  };
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const options = { method: 'POST', headers, signal, agent: false as const };
  try {
    const status = await new Promise<number>((resolve, reject) => {
      const sent =
        url.protocol === 'https:'
          ? secure(url, { ...options, ...(ca === null ? {} : { ca }) })
          : plain(url, options);
      sent.on('response', (answer) => {
        // what it says is not wanted, and it may say it for ever
        answer.destroy();
        resolve(answer.statusCode ?? 0);
      });
      sent.on('error', reject);
      sent.end(body);
    });
    if (status >= 200 && status < 300) return null;
    const mayHelp = status >= 500 || status === 408 || status === 425 || status === 429;
    return { detail: `it answered ${status}`, isForGood: !mayHelp };
  } catch (error) {
    return {
      detail: signal.aborted ? `no answer within ${TIMEOUT_MS / 1000} s` : messageOf(error),
      isForGood: false,
    };
  }
}
