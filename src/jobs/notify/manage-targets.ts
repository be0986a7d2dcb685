import { SendenseError } from '../../base/sendense-error.ts';
import type { NotifyTarget } from '../../catalog/events/notifications.ts';
import type { NotifierDeps } from './notifier.ts';
import { secretOf } from './secret-of.ts';

type TargetDeps = Pick<NotifierDeps, 'catalog' | 'clock'>;

/** @throws NOTIFY_UNKNOWN */
export function findTarget({ catalog }: TargetDeps, name: string): NotifyTarget {
  const target = catalog.notifications.byName(name);
  if (target === null) throw new SendenseError('NOTIFY_UNKNOWN', { target: name });
  return target;
}

/** It is told of what happens from now on. @throws NOTIFY_EXISTS, NOTIFY_FAILED when a secret cannot be read */
export async function addTarget(
  deps: TargetDeps,
  target: Omit<NotifyTarget, 'createdAt'>,
): Promise<NotifyTarget> {
  const { name, place } = target;
  if (deps.catalog.notifications.byName(name) !== null)
    throw new SendenseError('NOTIFY_EXISTS', { target: name });
  const files = place.kind === 'webhook' ? [place.secretFile, place.urlFile] : [place.passwordFile];
  for (const file of files) if (file !== null) await secretOf(file);
  const made = { ...target, createdAt: deps.clock.now().toISOString() };
  deps.catalog.notifications.add(made);
  deps.catalog.events.add({
    ...{ kind: 'notify.added', severity: 'info', subject: name },
    message: `"${name}" is told of events from ${target.severity} on.`,
    data: { target: place.kind, kinds: target.kinds },
  });
  return made;
}

/** What it was not told yet is forgotten. @throws NOTIFY_UNKNOWN */
export function removeTarget(deps: TargetDeps, name: string): void {
  findTarget(deps, name);
  deps.catalog.notifications.remove(name);
  deps.catalog.events.add({
    ...{ kind: 'notify.removed', severity: 'info', subject: name },
    message: `"${name}" is not told of events any more.`,
    data: {},
  });
}
