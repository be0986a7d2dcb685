import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { StorePlace } from './object-store.ts';

/** What happens after a failed request. */
export interface Verdict {
  readonly error: SendenseError;
  /** May succeed when it is sent again. */
  readonly retry: boolean;
  /** The server wants fewer requests. */
  readonly slower: boolean;
}

interface S3Failure {
  readonly name: string;
  readonly message: string;
  readonly status: number;
  readonly date: string | null;
  /** How an answer began that is not HTTP. */
  readonly said: string;
}

const throttling = /SlowDown|Throttl|RequestLimitExceeded|TooManyRequests|rate.?limit|reduce your request/i;
/** Each request lives at most this long; a server that is slower than that is away. */
const away = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'TimeoutError',
  'RequestTimeout',
  'RequestTimeoutException',
  'NetworkingError',
  'IncompleteBody',
]);

/** Tells what an error of the AWS SDK means here. @param action for people: "reading packs/…" */
export function judge(thrown: unknown, place: StorePlace, action: string, key: string): Verdict {
  if (thrown instanceof SendenseError) return final(thrown);
  const failure = failureOf(thrown);
  const { name, status } = failure;
  const detail = `${name}${failure.message === '' ? '' : `: ${failure.message}`}`.replace(/[.\s]+$/, '');
  // the SDK's own error holds the whole request, signature included: it must not come near a log
  const cause = new Error(detail);
  const error = (code: Parameters<typeof make>[0], fields: Record<string, string> = {}) =>
    make(code, { endpoint: place.endpoint, bucket: place.bucket, detail, action, key, ...fields }, cause);
  if (name === 'PreconditionFailed' || name === 'ConditionalRequestConflict' || status === 412)
    return final(error('MIRROR_CONFLICT'));
  if (/RequestTimeTooSkewed/.test(name)) {
    const times = {
      server_time: failure.date ?? 'another time',
      local_time: new Date().toUTCString(),
    };
    return final(error('MIRROR_CLOCK', times));
  }
  if (/SignatureDoesNotMatch|InvalidAccessKeyId|InvalidToken|CredentialsProviderError/.test(name))
    return final(error('MIRROR_CREDENTIALS'));
  if (/InvalidBucketName/.test(name))
    return final(error('MIRROR_INVALID', { detail: `the server takes no bucket called "${place.bucket}"` }));
  if (/NoSuchBucket/.test(name)) return final(error('MIRROR_BUCKET_MISSING'));
  if (/NoSuchKey|NoSuchVersion|NotFound/.test(name) || status === 404)
    return final(error('MIRROR_OBJECT_MISSING'));
  if (
    /QuotaExceeded|StorageFull|XMinioStorageFull|InsufficientStorage|EntityTooLarge/.test(name) ||
    status === 507
  )
    return final(error('MIRROR_FULL'));
  const isThrottled = throttling.test(`${name} ${failure.message}`);
  // some providers say 403 when they mean slow down
  if (isThrottled || status === 429 || status === 503)
    return { error: error('MIRROR_THROTTLED'), retry: true, slower: true };
  if (status === 403) return final(error('MIRROR_DENIED'));
  if (name.startsWith('HPE_')) return final(error('MIRROR_NOT_HTTP', { said: failure.said }));
  if (isNoTls(name, failure.message))
    return final(
      error('MIRROR_NOT_HTTP', { said: 'it does not speak TLS; perhaps it is meant with http://' }),
    );
  if (away.has(name) || status === 0)
    return { error: error('MIRROR_UNREACHABLE'), retry: isWorthAnotherTry(name), slower: false };
  if (status >= 500 || status === 408) return { error: error('MIRROR_FAILED'), retry: true, slower: false };
  return final(error('MIRROR_FAILED'));
}

const make = (
  code: ConstructorParameters<typeof SendenseError>[0],
  fields: Record<string, string>,
  cause: unknown,
) => new SendenseError(code, fields, cause);
const final = (error: SendenseError): Verdict => ({ error, retry: false, slower: false });

/** A name that does not exist and a certificate that is not trusted stay so. */
const isWorthAnotherTry = (name: string): boolean =>
  !/ENOTFOUND|CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS|EPROTO|ERR_INVALID/.test(name);

function failureOf(thrown: unknown): S3Failure {
  const cause = thrown instanceof AggregateError ? (thrown.errors[0] as unknown) : thrown;
  const bag = (typeof cause === 'object' && cause !== null ? cause : {}) as Record<string, unknown>;
  const meta = (bag['$metadata'] ?? {}) as { httpStatusCode?: number };
  const response = (bag['$response'] ?? {}) as { statusCode?: number; headers?: Record<string, string> };
  const status = meta.httpStatusCode ?? response.statusCode ?? 0;
  const code = [bag['Code'], bag['code'], bag['name']].find(
    (text) => typeof text === 'string' && text !== 'Error' && text !== 'Unknown' && text !== 'UnknownError',
  );
  return {
    name: String(code ?? (status === 0 ? 'no answer' : `HTTP ${status}`)),
    message: messageOf(cause) === 'UnknownError' ? '' : messageOf(cause),
    status,
    date: response.headers?.['date'] ?? null,
    said: saidBy(bag['rawPacket']),
  };
}

/** OpenSSL's words for an answer that is no record of TLS. */
const isNoTls = (name: string, message: string): boolean =>
  /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG/.test(name) ||
  /wrong version number|packet length too long/.test(message);

/** The longest beginning of a foreign answer that is repeated, in characters. */
const MOST_SAID = 60;

/** What Node keeps of an answer that its parser refused. */
function saidBy(packet: unknown): string {
  if (!(packet instanceof Uint8Array) || packet.length === 0) return 'it says something else';
  // a record of TLS: an alert or a handshake of some version 3
  if ((packet[0] === 0x15 || packet[0] === 0x16) && packet[1] === 3)
    return 'it speaks TLS; write the endpoint with https://';
  const text =
    Buffer.from(packet)
      .toString('latin1')
      .split(/[\r\n]/)[0] ?? '';
  const plain = text.replace(/[^ -~]/g, '?').slice(0, MOST_SAID);
  return `it says ${JSON.stringify(plain)}`;
}
