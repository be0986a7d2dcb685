/** Who has to act: the person who asked, the machine we run on, the stored bytes, or us. */
export type ErrorKind = 'user' | 'environment' | 'data' | 'bug';

export interface ErrorCodeEntry {
  readonly kind: ErrorKind;
  readonly http: number;
  /** Exit code of `sendense-ctl`, from the table in `docs/cli.md`. */
  readonly exit: number;
  /** True when the same request may succeed later without anybody changing it. */
  readonly retryable: boolean;
  /** What happened; `{name}` is replaced by the field of that name. */
  readonly text: string;
  /** The next command or action for the operator. */
  readonly hint: string;
}

export const user = (http: number, exit: number, text: string, hint: string): ErrorCodeEntry => ({
  kind: 'user',
  http,
  exit,
  retryable: false,
  text,
  hint,
});
export const busy = (text: string, hint: string): ErrorCodeEntry => ({
  kind: 'user',
  http: 409,
  exit: 11,
  retryable: true,
  text,
  hint,
});
export const environment = (text: string, hint: string, retryable = true, http = 503): ErrorCodeEntry => ({
  kind: 'environment',
  http,
  exit: 21,
  retryable,
  text,
  hint,
});
export const data = (text: string, hint: string): ErrorCodeEntry => ({
  kind: 'data',
  http: 422,
  exit: 20,
  retryable: false,
  text,
  hint,
});
