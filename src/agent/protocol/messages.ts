import { z } from 'zod';
import { parseInput } from '../../base/parse-input.ts';
import { type ErrorFields, isErrorCode, SendenseError } from '../../base/sendense-error.ts';
import type { Row } from '../../nbd/mover/rows/rows.ts';

/** A 64-bit number that JavaScript holds exactly. */
const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const shortText = z.string().max(256);
export const transferId = z.string().regex(/^[A-Za-z0-9._-]{1,128}$/);

const hello = z.object({
  oldestProtocol: size,
  newestProtocol: size,
  version: shortText,
  hostName: shortText,
  time: shortText,
  transfers: z.array(transferId).max(1000),
});
const answer = z.object({
  callId: size,
  body: z.string(),
  errorCode: z.string(),
  errorFields: z.string(),
});
const progress = z.object({
  transferId,
  processedBytes: size,
  readBytes: size,
  writtenBytes: size,
  reconnects: size,
});
const rows = z.object({
  transferId,
  from: size,
  until: size,
  rows: z.array(z.object({ offset: size, size: size.min(1), b3: z.instanceof(Buffer) })).max(4096),
});
const ended = z.object({ transferId, errorCode: z.string(), errorFields: z.string() });

const fromAgent = z.discriminatedUnion('message', [
  z.object({ message: z.literal('hello'), hello }),
  z.object({ message: z.literal('answer'), answer }),
  z.object({ message: z.literal('progress'), progress }),
  z.object({ message: z.literal('rows'), rows }),
  z.object({ message: z.literal('ended'), ended }),
  z.object({ message: z.literal('heartbeat'), heartbeat: z.object({}) }),
]);
export type FromAgent = z.infer<typeof fromAgent>;
export type Hello = z.infer<typeof hello>;
export type RowsMessage = z.infer<typeof rows>;
export type ProgressMessage = z.infer<typeof progress>;
export type EndedMessage = z.infer<typeof ended>;
export type AnswerMessage = z.infer<typeof answer>;

const toAgent = z.discriminatedUnion('message', [
  z.object({
    message: z.literal('welcome'),
    welcome: z.object({
      protocol: size,
      version: shortText,
      agentName: shortText,
      patienceS: size,
      transfers: z.array(z.object({ transferId, rowsUntil: size })),
      snapshots: z.array(z.string()),
    }),
  }),
  z.object({ message: z.literal('refused'), refused: z.object({ code: z.string(), fields: z.string() }) }),
  z.object({
    message: z.literal('call'),
    call: z.object({ callId: size, method: shortText, body: z.string() }),
  }),
  z.object({ message: z.literal('rowsTaken'), rowsTaken: z.object({ transferId, until: size }) }),
  z.object({ message: z.literal('heartbeat'), heartbeat: z.object({}) }),
]);
export type ToAgent = z.infer<typeof toAgent>;
export type Call = Extract<ToAgent, { message: 'call' }>['call'];
export type Welcome = Extract<ToAgent, { message: 'welcome' }>['welcome'];

/** @throws AGENT_ANSWER_INVALID */
export const readFromAgent = (agent: string, message: unknown): FromAgent =>
  parseInput(fromAgent, message, 'the message', (detail) => {
    return new SendenseError('AGENT_ANSWER_INVALID', { agent, detail });
  });

/** @throws REQUEST_INVALID */
export const readToAgent = (message: unknown): ToAgent =>
  parseInput(toAgent, message, 'the message', (detail) => new SendenseError('REQUEST_INVALID', { detail }));

/** A row as it travels: its digest as 32 bytes. */
export const packRow = (row: Row) => ({
  offset: row.offset,
  size: row.size,
  b3: row.b3 === undefined ? Buffer.alloc(0) : Buffer.from(row.b3, 'hex'),
});

/** @returns null for a digest that is none */
export function unpackRow({ offset, size: length, b3 }: RowsMessage['rows'][number]): Row | null {
  if (b3.length === 0) return { offset, size: length, zero: true };
  return b3.length === 32 ? { offset, size: length, b3: b3.toString('hex') } : null;
}

/** An error as it travels between the two sides. */
export const packError = (error: SendenseError) => ({
  errorCode: error.code,
  errorFields: JSON.stringify(error.fields),
});

const fieldsSchema = z.record(
  z.string().max(64),
  z.union([z.string().max(4096), z.number(), z.boolean(), z.null(), z.array(z.string().max(4096)).max(64)]),
);

/** The same error again; what is no error of ours becomes one. */
export function unpackError(code: string, fields: string): SendenseError {
  try {
    const parsed: ErrorFields = fieldsSchema.parse(JSON.parse(fields === '' ? '{}' : fields));
    if (isErrorCode(code)) return new SendenseError(code, parsed);
  } catch {
    // told below
  }
  return new SendenseError('INTERNAL', {
    detail: `the other side sent an error that is none: ${code.slice(0, 64)}`,
  });
}
