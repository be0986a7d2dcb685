import { type ErrorCode, type ErrorCodeEntry, errorCodes } from './error-codes.ts';

export type ErrorFields = Readonly<Record<string, string | number | boolean | readonly string[] | null>>;

/** The plain form of an error, as it is stored with a job and sent over REST. */
export interface ErrorReport {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly fields: ErrorFields;
}

function fill(template: string, fields: ErrorFields): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = fields[name];
    if (value === undefined) return whole;
    return Array.isArray(value) ? value.join(', ') : String(value);
  });
}

/** Every expected failure: a code of the table plus the facts that fill its text. */
export class SendenseError extends Error {
  readonly code: ErrorCode;
  readonly fields: ErrorFields;

  constructor(code: ErrorCode, fields: ErrorFields = {}, cause?: unknown) {
    super(fill(errorCodes[code].text, fields), cause === undefined ? undefined : { cause });
    this.name = 'SendenseError';
    this.code = code;
    this.fields = fields;
  }

  get entry(): ErrorCodeEntry {
    return errorCodes[this.code];
  }

  get hint(): string {
    return fill(this.entry.hint, this.fields);
  }

  report(): ErrorReport {
    return { code: this.code, message: this.message, hint: this.hint, fields: this.fields };
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorCodes, value);
}

/** Errors of damaged file systems, errno(3), for which Node has numbers only. */
const unnamed: Readonly<Record<string, string>> = { '74': 'EBADMSG', '117': 'EUCLEAN' };

/** The errno name (`ENOENT`, `EIO` …) of a Node system error, else null. */
export function errnoOf(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  if (typeof code !== 'string') return null;
  const number = /^Unknown system error -(\d+)$/.exec(code)?.[1];
  if (number !== undefined) return unnamed[number] ?? `E${number}`;
  return /^E[A-Z0-9]+$/.test(code) ? code : null;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Wraps what was not expected as INTERNAL, so that every edge speaks in codes. */
export function toSendenseError(error: unknown): SendenseError {
  if (error instanceof SendenseError) return error;
  // cleaning up failed too: what failed first is the story
  if (error instanceof SuppressedError) return toSendenseError(error.suppressed);
  if (errnoOf(error) === 'ENOSPC') return new SendenseError('DISK_FULL', { path: pathOf(error) }, error);
  // no errno: the database has names of its own
  if (error instanceof Error && 'code' in error && error.code === 'SQLITE_FULL')
    return new SendenseError('DISK_FULL', { path: 'the catalogue' }, error);
  return new SendenseError('INTERNAL', { detail: messageOf(error) }, error);
}

function pathOf(error: unknown): string {
  return error instanceof Error && 'path' in error ? String(error.path) : 'a file';
}

export function hasCode(error: unknown, ...codes: ErrorCode[]): boolean {
  return error instanceof SendenseError && codes.includes(error.code);
}
