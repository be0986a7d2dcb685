import type { Request } from 'express';
import { SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import { type EventLog, REQUEST_KIND } from '../../catalog/events/events.ts';

/**
 * What the audit repeats of a request. Named here one by one: whatever is added to a request later may be a secret
 * and stays out until somebody says that it is none.
 */
const told = [
  ...['vm_name', 'backup_id', 'mount_id', 'live_id', 'job_id', 'name', 'role', 'vms', 'labels', 'expires_s'],
  ...['repository', 'backup_type', 'to', 'all', 'missing', 'plan_id', 'plan', 'pin_id', 'cascade', 'merge'],
  ...['force', 'dry_run', 'keep_backups', 'disk', 'path', 'output', 'format', 'overwrite', 'differential'],
  ...['writable', 'tcp', 'port', 'tls', 'disconnect', 'uri', 'network', 'start', 'instant', 'compression'],
  ...[
    'agent_name',
    'mirror',
    'slot',
    'token',
    'target',
    'severity',
    'kinds',
    'bucket',
    'endpoint',
    'prefix',
    'legal_hold',
    'days',
  ],
] as const;
const MAX_TEXT = 300;

const short = (value: unknown): unknown => {
  const text = JSON.stringify(value);
  return text !== undefined && text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : value;
};

/** @param parts path, query and body of a request */
export function toldOf(parts: readonly unknown[]): Record<string, unknown> {
  const given: Record<string, unknown> = Object.assign(
    {},
    ...parts.filter((part) => part !== null && typeof part === 'object'),
  );
  return Object.fromEntries(
    told.filter((key) => given[key] !== undefined).map((key) => [key, short(given[key])]),
  );
}

/** One row for each request that would change something, whatever came of it. */
export function auditRequest(
  events: EventLog,
  request: Request,
  parts: readonly unknown[],
  outcome: { readonly status: number; readonly answer?: unknown; readonly error?: unknown },
): void {
  const error = outcome.error === undefined ? null : toSendenseError(outcome.error);
  const answer = outcome.answer !== null && typeof outcome.answer === 'object' ? outcome.answer : {};
  const job = 'job_id' in answer ? answer.job_id : null;
  const path = request.path.slice(0, 200);
  events.add({
    kind: REQUEST_KIND,
    severity: error instanceof SendenseError && error.entry.kind === 'bug' ? 'error' : 'info',
    subject: null,
    message: `${request.method} ${path}: ${error === null ? outcome.status : error.code}`,
    data: {
      ...{ method: request.method, path, status: outcome.status, code: error?.code ?? null },
      ...(job === null ? {} : { job_id: job }),
      request: toldOf(parts),
    },
  });
}
