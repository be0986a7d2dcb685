import { readFile } from 'node:fs/promises';
import { createTransport } from 'nodemailer';
import { messageOf } from '../../base/sendense-error.ts';
import type { SmtpPlace } from '../../catalog/events/notifications.ts';
import { type Message, mailOf, type SendFailure } from './message.ts';
import { secretOf } from './secret-of.ts';

const TIMEOUT_MS = 20_000;

/** Mails one event to all receivers of a target. @returns null when the server took it */
export async function sendMail(place: SmtpPlace, message: Message): Promise<SendFailure | null> {
  const pass = place.passwordFile === null ? null : await secretOf(place.passwordFile);
  const ca = place.caFile === null ? null : await readFile(place.caFile, 'utf8');
  const transport = createTransport({
    host: place.host,
    port: place.port,
    secure: place.security === 'tls',
    requireTLS: place.security === 'starttls',
    ignoreTLS: place.security === 'none',
    ...(place.user === null || pass === null ? {} : { auth: { user: place.user, pass } }),
    ...(ca === null ? {} : { tls: { ca } }),
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
    // a message is made of texts only: nothing is read from files or addresses
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  try {
    await transport.sendMail({
      from: place.from,
      to: [...place.to],
      ...mailOf(message),
      messageId: `<${message.deliveryId}@${
        place.from
          .split('@')
          .at(-1)
          ?.replace(/[^\w.-]/g, '') ?? 'sendense'
      }>`,
      headers: { 'Auto-Submitted': 'auto-generated' },
    });
    return null;
  } catch (error) {
    const code = error instanceof Error && 'responseCode' in error ? Number(error.responseCode) : 0;
    // RFC 5321 section 4.2.1: 5yz is for good. A refused login is not: the password may be put right
    const isForGood = code >= 500 && code < 600 && code !== 535 && code !== 530;
    return { detail: messageOf(error), isForGood };
  } finally {
    transport.close();
  }
}
