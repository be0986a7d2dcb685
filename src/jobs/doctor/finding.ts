/** What one check found. `failed`: something the appliance was set up to do does not work. */
export interface Finding {
  readonly check: string;
  readonly result: 'ok' | 'warn' | 'failed';
  readonly detail: string;
  /** What to do about it; null when it is ok. */
  readonly next: string | null;
}

export const ok = (check: string, detail: string): Finding => ({ check, result: 'ok', detail, next: null });
export const warn = (check: string, detail: string, next: string): Finding => ({
  check,
  result: 'warn',
  detail,
  next,
});
export const failed = (check: string, detail: string, next: string): Finding => ({
  check,
  result: 'failed',
  detail,
  next,
});
