import type { Db } from '../open/open-catalog.ts';
import type { Severity } from './event.ts';

export interface WebhookPlace {
  readonly kind: 'webhook';
  /** Null: it stands in `urlFile`, since it is a secret itself. */
  readonly url: string | null;
  readonly urlFile: string | null;
  readonly secretFile: string;
  readonly caFile: string | null;
}

export interface SmtpPlace {
  readonly kind: 'smtp';
  readonly host: string;
  readonly port: number;
  /** `tls` from the first byte, `starttls` before anything is said, or none. */
  readonly security: 'tls' | 'starttls' | 'none';
  readonly user: string | null;
  readonly passwordFile: string | null;
  readonly caFile: string | null;
  readonly from: string;
  readonly to: readonly string[];
}

/** Somebody who is told of events. */
export interface NotifyTarget {
  readonly name: string;
  readonly place: WebhookPlace | SmtpPlace;
  /** The least that is told. */
  readonly severity: Severity;
  /** Kinds of events, as `backup.failed` or `mirror.*`; none: all. */
  readonly kinds: readonly string[];
  readonly createdAt: string;
}

export interface Delivery {
  readonly deliveryId: number;
  readonly target: string;
  readonly eventId: number;
  readonly createdAt: string;
  readonly attempts: number;
  readonly nextAt: string;
  readonly lastError: string | null;
  readonly givenUpAt: string | null;
}

interface TargetRow {
  name: string;
  document: string;
  seen_event_id: number;
  created_at: string;
}
interface DeliveryRow {
  delivery_id: number;
  target: string;
  event_id: number;
  created_at: string;
  attempts: number;
  next_at: string;
  last_error: string | null;
  given_up_at: string | null;
}

const toTarget = ({ name, document, created_at }: TargetRow): NotifyTarget => ({
  ...(JSON.parse(document) as Omit<NotifyTarget, 'name' | 'createdAt'>),
  name,
  createdAt: created_at,
});
const toDelivery = (row: DeliveryRow): Delivery => ({
  deliveryId: row.delivery_id,
  target: row.target,
  eventId: row.event_id,
  createdAt: row.created_at,
  attempts: row.attempts,
  nextAt: row.next_at,
  lastError: row.last_error,
  givenUpAt: row.given_up_at,
});

/** Targets of notifications, and the outbox: what was decided to be told is told, also after a crash. */
export function notificationQueries(db: Db) {
  const all = db.prepare<[], TargetRow>('SELECT * FROM notify_targets ORDER BY name');
  const byName = db.prepare<[string], TargetRow>('SELECT * FROM notify_targets WHERE name = ?');
  const add = db.prepare<[string, string, string]>(
    `INSERT INTO notify_targets (name, document, seen_event_id, created_at)
     VALUES (?, ?, (SELECT coalesce(max(id), 0) FROM events), ?)`,
  );
  const remove = db.prepare<[string]>('DELETE FROM notify_targets WHERE name = ?');
  const seen = db.prepare<[number, string]>('UPDATE notify_targets SET seen_event_id = ? WHERE name = ?');
  const put = db.prepare<[string, number, string, string]>(
    'INSERT OR IGNORE INTO notify_outbox (target, event_id, created_at, next_at) VALUES (?, ?, ?, ?)',
  );
  const waiting = db.prepare<[string, number], DeliveryRow>(
    'SELECT * FROM notify_outbox WHERE target = ? AND given_up_at IS NULL ORDER BY delivery_id LIMIT ?',
  );
  const counts = db.prepare<
    [{ name: string }],
    { waiting: number; given_up: number; last_error: string | null }
  >(
    `SELECT count(*) FILTER (WHERE given_up_at IS NULL) AS waiting, count(*) FILTER (WHERE given_up_at IS NOT NULL) AS given_up,
       (SELECT last_error FROM notify_outbox WHERE target = @name AND last_error IS NOT NULL ORDER BY delivery_id DESC LIMIT 1) AS last_error
       FROM notify_outbox WHERE target = @name`,
  );
  const late = db
    .prepare<[], number>('SELECT count(*) FROM notify_outbox WHERE given_up_at IS NULL AND attempts > 0')
    .pluck();
  const done = db.prepare<[number]>('DELETE FROM notify_outbox WHERE delivery_id = ?');
  const failed = db.prepare<[string, string, number]>(
    'UPDATE notify_outbox SET attempts = attempts + 1, last_error = ?, next_at = ? WHERE delivery_id = ?',
  );
  const giveUp = db.prepare<[string, string, number]>(
    'UPDATE notify_outbox SET attempts = attempts + 1, last_error = ?, given_up_at = ? WHERE delivery_id = ?',
  );
  const forget = db.prepare<[string]>('DELETE FROM notify_outbox WHERE given_up_at < ?');
  return {
    all: (): NotifyTarget[] => all.all().map(toTarget),
    byName: (name: string): NotifyTarget | null => {
      const row = byName.get(name);
      return row ? toTarget(row) : null;
    },
    /** It is told of what comes from now on. */
    add: ({ name, createdAt, ...document }: NotifyTarget) =>
      add.run(name, JSON.stringify(document), createdAt),
    remove: (name: string) => remove.run(name),
    seenEvent: (name: string): number => byName.get(name)?.seen_event_id ?? 0,
    /** Decided for all events up to this one: these are to be told, the others not. Together or not at all. */
    decide: db.transaction((name: string, upTo: number, eventIds: readonly number[], now: Date) => {
      const at = now.toISOString();
      for (const id of eventIds) put.run(name, id, at, at);
      seen.run(upTo, name);
    }),
    /** Oldest first. */
    waiting: (name: string, limit: number): Delivery[] => waiting.all(name, limit).map(toDelivery),
    counts: (name: string) => {
      const row = counts.get({ name });
      return { waiting: row?.waiting ?? 0, givenUp: row?.given_up ?? 0, lastError: row?.last_error ?? null };
    },
    /** Of all targets: what could not be delivered at the first attempt. */
    late: (): number => late.get() ?? 0,
    delivered: (deliveryId: number) => done.run(deliveryId),
    failed: (deliveryId: number, error: string, nextAt: Date) =>
      failed.run(error, nextAt.toISOString(), deliveryId),
    gaveUp: (deliveryId: number, error: string, at: Date) => giveUp.run(error, at.toISOString(), deliveryId),
    forgetGivenUp: (before: Date) => forget.run(before.toISOString()),
  };
}

export type NotificationQueries = ReturnType<typeof notificationQueries>;
