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
  /** On whose behalf; null: the appliance itself. */
  readonly actor: string | null;
  /** An address, or `socket`. */
  readonly origin: string | null;
}

export interface EventRow extends Omit<CatalogEvent, 'data'> {
  readonly data: string;
  readonly hash: string | null;
}

export type NewEvent = Omit<CatalogEvent, 'id' | 'at' | 'actor' | 'origin'>;
