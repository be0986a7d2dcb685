import { hostname } from 'node:os';
import type { CatalogEvent, Severity } from '../../catalog/events/event.ts';
import { REQUEST_KIND } from '../../catalog/events/events.ts';
import type { NotifyTarget } from '../../catalog/events/notifications.ts';

/** What is sent, and whether another try may help. */
export interface SendFailure {
  readonly detail: string;
  readonly isForGood: boolean;
}

export interface Message {
  /** The same for each attempt: by it a receiver tells a repeat. */
  readonly deliveryId: string;
  readonly event: CatalogEvent;
}

const order: readonly Severity[] = ['info', 'warning', 'error'];

/** Whether a target is told of an event. What is about notifications themselves would go round in circles. Pure. */
export function isTold(
  { severity, kinds }: Pick<NotifyTarget, 'severity' | 'kinds'>,
  event: CatalogEvent,
): boolean {
  if (event.kind === REQUEST_KIND || event.kind.startsWith('notify.')) return false;
  if (order.indexOf(event.severity) < order.indexOf(severity)) return false;
  return (
    kinds.length === 0 ||
    kinds.some((kind) =>
      kind.endsWith('*') ? event.kind.startsWith(kind.slice(0, -1)) : event.kind === kind,
    )
  );
}

/** What a webhook gets. */
export const documentOf = ({ deliveryId, event }: Message) => ({
  delivery_id: deliveryId,
  appliance: hostname(),
  event: { ...event, data: event.data },
});

/** What a person gets. */
export function mailOf({ event }: Message): { readonly subject: string; readonly text: string } {
  const data = Object.entries(event.data).map(
    ([key, value]) => `  ${key}: ${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return {
    subject: `[sendense ${hostname()}] ${event.severity}: ${event.message.slice(0, 120)}`,
    text: [
      event.message,
      '',
      `Kind:     ${event.kind}`,
      `Severity: ${event.severity}`,
      `Time:     ${event.at}`,
      ...(event.subject === null ? [] : [`About:    ${event.subject}`]),
      ...(event.actor === null ? [] : [`By:       ${event.actor}`]),
      ...(data.length === 0 ? [] : ['', 'Details:', ...data]),
      '',
      `Event ${event.id}. On the appliance: sendense-ctl events`,
      '',
    ].join('\n'),
  };
}
