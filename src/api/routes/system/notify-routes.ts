import { z } from 'zod';
import type { NotifyTarget, SmtpPlace, WebhookPlace } from '../../../catalog/events/notifications.ts';
import { addTarget, findTarget, removeTarget } from '../../../jobs/notify/manage-targets.ts';
import type { Notifier, NotifierDeps } from '../../../jobs/notify/notifier.ts';
import { defineRoute, type Route } from '../../route.ts';
import { path, repositoryName } from '../../schemas.ts';

const tag = 'notifications';
const targetName = repositoryName.meta({ description: 'Name of a target of notifications' });
const params = z.object({ target: targetName });
const file = path.startsWith('/', 'an absolute path on the appliance');
const address = z
  .string()
  .max(320)
  .regex(/^[^\s<>@,;:"]+@[^\s<>@,;:"]+$/, 'a mail address');

const webhook = z
  .strictObject({
    kind: z.literal('webhook'),
    url: z
      .url({ protocol: /^https?$/, error: 'a URL of https or http' })
      .max(2048)
      .optional(),
    url_file: file.optional().meta({ description: 'For a URL that is a secret itself' }),
    secret_file: file.meta({ description: 'The key of the signatures' }),
    ca_file: file.optional(),
  })
  .refine(
    ({ url, url_file }) => (url === undefined) !== (url_file === undefined),
    'give either url or url_file',
  );
const smtp = z
  .strictObject({
    kind: z.literal('smtp'),
    host: z.string().min(1).max(255),
    port: z.number().int().min(1).max(65_535).optional(),
    security: z.enum(['tls', 'starttls', 'none']).default('starttls'),
    user: z.string().min(1).max(256).optional(),
    password_file: file.optional(),
    ca_file: file.optional(),
    from: address,
    to: z.array(address).min(1).max(50),
  })
  .refine(
    ({ user, password_file }) => (user === undefined) === (password_file === undefined),
    'user and password_file belong together',
  )
  .refine(
    ({ user, security }) => user === undefined || security !== 'none',
    'a password is not sent without TLS',
  );
const usualPort = { tls: 465, starttls: 587, none: 25 } as const;

const targetAnswer = z.object({
  name: z.string(),
  kind: z.enum(['webhook', 'smtp']),
  place: z.string(),
  severity: z.enum(['info', 'warning', 'error']),
  kinds: z.array(z.string()),
  created_at: z.string(),
  waiting: z.number(),
  given_up: z.number(),
  last_error: z.string().nullable(),
});

function placeOf(given: z.infer<typeof webhook> | z.infer<typeof smtp>): WebhookPlace | SmtpPlace {
  const caFile = given.ca_file ?? null;
  if (given.kind === 'webhook')
    return {
      ...{ kind: 'webhook', url: given.url ?? null, urlFile: given.url_file ?? null },
      ...{ secretFile: given.secret_file, caFile },
    };
  const { host, security, from, to } = given;
  return {
    ...{ kind: 'smtp', host, port: given.port ?? usualPort[security], security, from, to, caFile },
    ...{ user: given.user ?? null, passwordFile: given.password_file ?? null },
  };
}

/** The rest of a URL of a webhook is often its password. */
function placeText(place: WebhookPlace | SmtpPlace): string {
  if (place.kind === 'smtp')
    return `${place.to.join(' ')} by ${place.host}:${place.port} (${place.security})`;
  if (place.url === null) return `as in ${place.urlFile}`;
  const { origin, pathname, search } = new URL(place.url);
  return pathname === '/' && search === '' ? origin : `${origin}/…`;
}

/** Who is told of events. */
export function notifyRoutes(deps: NotifierDeps & { readonly notifier: Notifier }): Route[] {
  const view = ({ name, place, severity, kinds, createdAt }: NotifyTarget) => ({
    ...{ name, kind: place.kind, place: placeText(place), severity, kinds, createdAt },
    ...deps.catalog.notifications.counts(name),
  });
  return [
    defineRoute({
      method: 'get',
      path: '/notify/targets',
      tag,
      summary: 'Who is told of events, and what could not be told yet',
      access: { role: 'operator', about: 'appliance' },
      answer: z.object({ targets: z.array(targetAnswer) }),
      handle: async () => ({ targets: deps.catalog.notifications.all().map(view) }),
    }),
    defineRoute({
      method: 'post',
      path: '/notify/targets',
      tag,
      status: 201,
      summary: 'Tell somebody of events from now on',
      access: { role: 'admin', about: 'appliance' },
      body: z.strictObject({
        name: targetName,
        place: z.union([webhook, smtp]),
        severity: z.enum(['info', 'warning', 'error']).default('warning'),
        kinds: z
          .array(z.string().regex(/^[a-z_]+(\.[a-z_]+|\.\*)?$/, 'a kind, as backup.failed or mirror.*'))
          .max(100)
          .default([]),
      }),
      answer: targetAnswer,
      handle: async ({ body: { name, place, severity, kinds } }) =>
        view(await addTarget(deps, { name, place: placeOf(place), severity, kinds })),
    }),
    defineRoute({
      method: 'get',
      path: '/notify/targets/{target}',
      tag,
      summary: 'One target of notifications',
      access: { role: 'operator', about: 'appliance' },
      params,
      answer: targetAnswer,
      handle: async ({ params: { target } }) => view(findTarget(deps, target)),
    }),
    defineRoute({
      method: 'delete',
      path: '/notify/targets/{target}',
      tag,
      status: 204,
      summary: 'Tell it nothing any more',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: z.null(),
      handle: async ({ params: { target } }) => {
        removeTarget(deps, target);
        return null;
      },
    }),
    defineRoute({
      method: 'post',
      path: '/notify/targets/{target}/test',
      tag,
      summary: 'Send it a test now, and say whether it arrived',
      access: { role: 'operator', about: 'appliance' },
      params,
      answer: z.object({ name: z.string(), sent: z.boolean() }),
      handle: async ({ params: { target } }) => {
        await deps.notifier.test(findTarget(deps, target));
        return { name: target, sent: true };
      },
    }),
  ];
}
