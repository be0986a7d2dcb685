import { EventEmitter } from 'node:events';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Db } from './open-catalog.ts';

export type Severity = 'info' | 'warning' | 'error';

export interface CatalogEvent {
  readonly id: number;
  readonly at: string;
  /** As in `backup.completed`. */
  readonly kind: string;
  readonly severity: Severity;
  /** The machine, backup or mount it is about. */
  readonly subject: string | null;
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface EventRow extends Omit<CatalogEvent, 'data'> {
  data: string;
}

/** The one stream of what happened: log, REST and audit all read it. */
export class EventLog {
  readonly #insert;
  readonly #after;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly stream = new EventEmitter<{ event: [CatalogEvent] }>();

  constructor(db: Db, clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
    this.#insert = db.prepare(
      'INSERT INTO events (at, kind, severity, subject, message, data) VALUES (@at, @kind, @severity, @subject, @message, @data)',
    );
    this.#after = db.prepare<[number, number], EventRow>(
      'SELECT * FROM events WHERE id < ? ORDER BY id DESC LIMIT ?',
    );
  }

  add(event: Omit<CatalogEvent, 'id' | 'at'>): void {
    const at = this.#clock.now().toISOString();
    const result = this.#insert.run({ ...event, at, data: JSON.stringify(event.data) });
    const level = event.severity === 'warning' ? 'warn' : event.severity;
    this.#logger[level]({ kind: event.kind, subject: event.subject, ...event.data }, event.message);
    this.stream.emit('event', { ...event, id: Number(result.lastInsertRowid), at });
  }

  /** Newest first. @param before id of the last event already seen */
  list(limit: number, before: number | null = null): CatalogEvent[] {
    return this.#after
      .all(before ?? Number.MAX_SAFE_INTEGER, limit)
      .map((row) => ({ ...row, data: JSON.parse(row.data) as Record<string, unknown> }));
  }
}
