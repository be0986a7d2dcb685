import { EventEmitter } from 'node:events';
import { setImmediate as breathe } from 'node:timers/promises';
import { currentActor } from '../../base/actor.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { Db } from '../open/open-catalog.ts';
import type { CatalogEvent, EventRow, NewEvent } from './event.ts';
import { EventAnchor } from './event-anchor.ts';
import { type Anchor, CHAIN_START, ChainCheck, type ChainProblem, hashOfRow } from './event-chain.ts';

export type { CatalogEvent, Severity } from './event.ts';

/** What a look along the whole log found. */
export interface ChainReport {
  readonly rows: number;
  readonly head: { readonly id: number; readonly hash: string };
  readonly anchor: Anchor | null;
  readonly problems: readonly ChainProblem[];
}

/** Requests that change something are rows too; who asks what happened wants to see what came of them. */
export const REQUEST_KIND = 'api.request';
/** Rows that are looked at before others get their turn. */
const BATCH = 2_000;

/** The one stream of what happened, chained by hashes: log, REST and audit all read it. */
export class EventLog {
  readonly #add;
  readonly #before;
  readonly #from;
  readonly #head;
  readonly #given;
  readonly #after;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #anchor: EventAnchor;
  readonly stream = new EventEmitter<{ event: [CatalogEvent] }>();

  /** @param anchorFile lies beside the catalogue; null: it is in memory only */
  constructor(db: Db, clock: Clock, logger: Logger, anchorFile: string | null) {
    this.#clock = clock;
    this.#logger = logger;
    this.#head = db.prepare<[], Anchor>('SELECT id, hash, at FROM events ORDER BY id DESC LIMIT 1');
    this.#given = db.prepare<[], number>(`SELECT seq FROM sqlite_sequence WHERE name = 'events'`).pluck();
    this.#anchor = new EventAnchor(anchorFile, () => this.#head.get() ?? null);
    const insert = db.prepare(
      'INSERT INTO events (at, kind, severity, subject, message, data, actor, origin) VALUES (@at, @kind, @severity, @subject, @message, @data, @actor, @origin)',
    );
    const seal = db.prepare<[string, number]>('UPDATE events SET hash = ? WHERE id = ?');
    this.#add = db.transaction((row: Omit<EventRow, 'id' | 'hash'>): number => {
      // read each time: what was rolled back, or not written by a crash, is not followed
      const before = this.#head.get()?.hash ?? CHAIN_START;
      const id = Number(insert.run(row).lastInsertRowid);
      seal.run(hashOfRow(before, { ...row, id }), id);
      return id;
    });
    const shown = 'SELECT id, at, kind, severity, subject, message, data, actor, origin FROM events';
    this.#after = db.prepare<[number, number, number], Omit<EventRow, 'hash'>>(
      `${shown} WHERE id < ? AND (? OR kind <> '${REQUEST_KIND}') ORDER BY id DESC LIMIT ?`,
    );
    this.#before = db.prepare<[number, number], Omit<EventRow, 'hash'>>(
      `${shown} WHERE id > ? ORDER BY id LIMIT ?`,
    );
    this.#from = db.prepare<[number, number], EventRow>(
      'SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?',
    );
    this.#begin(db, (row, before) => seal.run(hashOfRow(before, row), row.id));
  }

  add(event: NewEvent): void {
    const at = this.#clock.now().toISOString();
    const actor = currentActor();
    const who = { actor: actor?.who ?? null, origin: actor?.from ?? null };
    const id = this.#add({ ...event, ...who, at, data: JSON.stringify(event.data) });
    this.#anchor.moved();
    const level = event.severity === 'warning' ? 'warn' : event.severity;
    const said = { kind: event.kind, subject: event.subject, ...(actor === null ? {} : who), ...event.data };
    this.#logger[level](said, event.message);
    this.stream.emit('event', { ...event, ...who, id, at });
  }

  /** Newest first. @param before id of the last event already seen @param withRequests also the requests themselves */
  list(limit: number, before: number | null = null, withRequests = false): CatalogEvent[] {
    return this.#after.all(before ?? Number.MAX_SAFE_INTEGER, withRequests ? 1 : 0, limit).map(toEvent);
  }

  /** Oldest first. @param after id of the last event already seen */
  since(after: number, limit: number): CatalogEvent[] {
    return this.#before.all(after, limit).map(toEvent);
  }

  /** The newest row; null: none. */
  head(): Anchor | null {
    return this.#head.get() ?? null;
  }

  /** Looks along the whole chain. @param kept an anchor that the operator keeps elsewhere */
  async verify(kept: Anchor | null = null): Promise<ChainReport> {
    const anchor = this.#anchor.read();
    const anchors = [anchor, kept].filter((one) => one !== null);
    const check = new ChainCheck();
    for (;;) {
      const rows = this.#from.all(check.head.id, BATCH);
      for (const row of rows) check.row(row, anchors);
      if (rows.length < BATCH) break;
      await breathe();
    }
    check.end(this.#given.get() ?? 0, anchors);
    return { rows: check.rows, head: check.head, anchor, problems: check.problems };
  }

  close(): void {
    this.#anchor.close();
  }

  /** Chains the rows of an older release; and says so when the end of the log is not where it was. */
  #begin(db: Db, seal: (row: EventRow, before: string) => void): void {
    const sealed = db.prepare<[], number>('SELECT count(*) FROM events WHERE hash IS NOT NULL').pluck();
    const rowOf = db.prepare<[number], { hash: string }>('SELECT hash FROM events WHERE id = ?');
    const anchor = this.#anchor.read();
    if (sealed.get() === 0)
      db.transaction(() => {
        let before = CHAIN_START;
        for (const row of db.prepare<[], EventRow>('SELECT * FROM events ORDER BY id').all()) {
          seal(row, before);
          before = hashOfRow(before, row);
        }
      })();
    if (anchor === null || rowOf.get(anchor.id)?.hash === anchor.hash) return;
    this.#anchor.putAside(this.#clock.now());
    this.add({
      kind: 'events.broken',
      severity: 'error',
      subject: null,
      message: `The log of events had got to ${anchor.id} at ${anchor.at}, and that row is missing or another one now.`,
      data: { anchor_id: anchor.id, anchor_hash: anchor.hash, anchor_at: anchor.at },
    });
  }
}

const toEvent = (row: Omit<EventRow, 'hash'>): CatalogEvent => ({
  ...row,
  data: JSON.parse(row.data) as Record<string, unknown>,
});
