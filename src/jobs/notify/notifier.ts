import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Delivery, NotifyTarget } from '../../catalog/events/notifications.ts';
import { isTold, type Message, type SendFailure } from './message.ts';
import { sendMail } from './send-mail.ts';
import { sendWebhook } from './send-webhook.ts';

/** 2, 4, 8 s … and every 15 minutes in the end, for a day: a weekend's outage is told by others. */
const FIRST_WAIT_MS = 2_000;
const LONGEST_WAIT_MS = 15 * 60_000;
const GIVE_UP_MS = 24 * 3600_000;
const KEEP_GIVEN_UP_MS = 30 * 86_400_000;
/** Also looks without an event: for what waits. */
const TICK_MS = 1_000;
const BATCH = 500;

export interface NotifierDeps {
  readonly catalog: Pick<Catalog, 'events' | 'notifications'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Tells targets of events, each target in the order of the events; what is down gets it later. */
export class Notifier implements AsyncDisposable {
  readonly #deps: NotifierDeps;
  readonly #stopping = new AbortController();
  readonly #running = new Set<string>();
  readonly #loop: Promise<void>;
  #wake: () => void = () => {};

  constructor(deps: NotifierDeps) {
    this.#deps = deps;
    deps.catalog.events.stream.on('event', () => this.#wake());
    this.#loop = this.#run();
  }

  /** Sends a test at once, past the outbox. @throws NOTIFY_FAILED */
  async test(target: NotifyTarget): Promise<void> {
    const failure = await this.#send(target, {
      deliveryId: `test-${randomUUID()}`,
      event: {
        ...{ id: 0, at: this.#deps.clock.now().toISOString(), kind: 'notify.test', severity: 'info' },
        ...{ subject: target.name, message: `A test of the target "${target.name}".`, data: {} },
        ...{ actor: null, origin: null },
      },
    });
    if (failure !== null)
      throw new SendenseError('NOTIFY_FAILED', { detail: `${target.name}: ${failure.detail}` });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { catalog, clock, logger } = this.#deps;
    catalog.notifications.forgetGivenUp(new Date(clock.now().getTime() - KEEP_GIVEN_UP_MS));
    const deliveries = new Set<Promise<void>>();
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      for (const target of catalog.notifications.all()) {
        try {
          this.#decide(target);
        } catch (error) {
          // a full disk: the events stay where they are, and are looked at again
          logger.error({ target: target.name, error: messageOf(error) }, 'notifications cannot be kept');
        }
        if (this.#running.has(target.name)) continue;
        this.#running.add(target.name);
        const delivery = this.#deliver(target)
          .catch((error: unknown) =>
            logger.error({ target: target.name, err: error }, 'notifications stopped'),
          )
          .finally(() => {
            this.#running.delete(target.name);
            deliveries.delete(delivery);
          });
        deliveries.add(delivery);
      }
      const tick = new AbortController();
      await Promise.race([
        woken,
        sleep(TICK_MS, undefined, { ref: false, signal: tick.signal }).catch(() => {}),
      ]);
      tick.abort();
    }
    await Promise.all(deliveries);
  }

  /** Puts into the outbox what is to be told of the events since the last look. */
  #decide(target: NotifyTarget): void {
    const { events, notifications } = this.#deps.catalog;
    const seen = notifications.seenEvent(target.name);
    for (let after = seen; ; ) {
      const found = events.since(after, BATCH);
      const last = found.at(-1);
      if (last === undefined) return;
      const told = found.filter((event) => isTold(target, event)).map(({ id }) => id);
      notifications.decide(target.name, last.id, told, this.#deps.clock.now());
      after = last.id;
    }
  }

  /** All that is due; the first that fails keeps the others waiting. */
  async #deliver(target: NotifyTarget): Promise<void> {
    const { clock, catalog } = this.#deps;
    for (;;) {
      const [next] = catalog.notifications.waiting(target.name, 1);
      if (next === undefined || this.#stopping.signal.aborted) return;
      if (Date.parse(next.nextAt) > clock.now().getTime()) return;
      const [event] = catalog.events.since(next.eventId - 1, 1);
      if (event === undefined || event.id !== next.eventId) {
        catalog.notifications.delivered(next.deliveryId);
        continue;
      }
      const failure = await this.#send(target, { deliveryId: `${target.name}-${next.eventId}`, event });
      // it was removed meanwhile
      if (catalog.notifications.byName(target.name) === null) return;
      if (failure === null) catalog.notifications.delivered(next.deliveryId);
      else this.#failed(target, next, failure);
    }
  }

  #failed(target: NotifyTarget, delivery: Delivery, { detail, isForGood }: SendFailure): void {
    const { catalog, clock, logger } = this.#deps;
    const now = clock.now();
    const ageMs = now.getTime() - Date.parse(delivery.createdAt);
    if (!isForGood && ageMs < GIVE_UP_MS) {
      const waitMs = Math.min(FIRST_WAIT_MS * 2 ** Math.min(delivery.attempts, 20), LONGEST_WAIT_MS);
      catalog.notifications.failed(delivery.deliveryId, detail, new Date(now.getTime() + waitMs));
      logger.warn(
        { target: target.name, event: delivery.eventId, waitMs, detail },
        'a notification has to wait',
      );
      return;
    }
    catalog.notifications.gaveUp(delivery.deliveryId, detail, now);
    catalog.events.add({
      ...{ kind: 'notify.failed', severity: 'warning', subject: target.name },
      message: `The target "${target.name}" could not be told of event ${delivery.eventId}: ${detail}`,
      data: { event_id: delivery.eventId, attempts: delivery.attempts + 1 },
    });
  }

  async #send(target: NotifyTarget, message: Message): Promise<SendFailure | null> {
    const { place } = target;
    try {
      return place.kind === 'webhook'
        ? await sendWebhook(place, message, this.#deps.clock.now())
        : await sendMail(place, message);
    } catch (error) {
      // a secret that cannot be read just now
      return { detail: messageOf(error), isForGood: false };
    }
  }
}
