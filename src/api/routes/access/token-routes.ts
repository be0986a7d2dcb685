import { z } from 'zod';
import type { AccessToken } from '../../../catalog/tokens.ts';
import { roles } from '../../access/route-access.ts';
import type { IssuedToken, TokenOffice } from '../../access/token-office.ts';
import { defineRoute, type Route } from '../../route.ts';
import { flag, vmName } from '../../schemas.ts';

const tag = 'access';
const tokenName = vmName.meta({ description: 'Name of a token' });
const params = z.object({ token: tokenName });
const label = z.strictObject({ name: z.string().min(1).max(64), value: z.string().max(256) });
/** Ten years: who wants it for ever leaves it out. */
const expires = z
  .number()
  .int()
  .min(1)
  .max(10 * 366 * 86_400);

const tokenAnswer = z.object({
  name: z.string(),
  token_id: z.string(),
  status: z.enum(['good', 'expired', 'revoked']),
  role: z.enum(roles),
  vms: z.array(z.string()),
  labels: z.array(label),
  created_by: z.string(),
  created_at: z.string(),
  expires_at: z.string().nullable(),
  rotated_at: z.string().nullable(),
  revoked_at: z.string().nullable(),
  last_used_at: z.string().nullable(),
  last_used_from: z.string().nullable(),
});
const issuedAnswer = tokenAnswer.extend({
  token: z
    .string()
    .nullable()
    .meta({ description: 'The secret; only this answer has it. Null in a repeat by Idempotency-Key' }),
});

interface TokenRouteDeps {
  readonly office: TokenOffice;
  readonly tokens: () => readonly AccessToken[];
  readonly now: () => Date;
}

/** Tokens of the API. */
export function tokenRoutes({ office, tokens, now }: TokenRouteDeps): Route[] {
  const statusOf = ({ revokedAt, expiresAt }: AccessToken) =>
    revokedAt !== null
      ? 'revoked'
      : expiresAt !== null && Date.parse(expiresAt) <= now().getTime()
        ? 'expired'
        : 'good';
  const view = ({ secretHash: _hash, labels, ...token }: AccessToken) => ({
    ...token,
    status: statusOf({ ...token, labels, secretHash: '' }),
    labels: labels.map(([name, value]) => ({ name, value })),
  });
  const issued = ({ token, text }: IssuedToken) => ({ ...view(token), token: text });
  return [
    defineRoute({
      method: 'get',
      path: '/whoami',
      tag,
      summary: 'Who the appliance takes the caller for',
      access: { role: 'viewer', about: 'none' },
      answer: z.object({
        who: z.string(),
        from: z.string(),
        role: z.enum(roles),
        token: tokenAnswer.nullable(),
      }),
      handle: async ({ caller: { who, from, role, token } }) => ({
        ...{ who, from, role, token: token === null ? null : view(token) },
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/tokens',
      tag,
      summary: 'All tokens in use, without their secrets',
      access: { role: 'admin', about: 'appliance' },
      query: z.strictObject({ all: flag }),
      answer: z.object({ tokens: z.array(tokenAnswer) }),
      handle: async ({ query }) => ({
        tokens: tokens()
          .filter(({ revokedAt }) => query.all || revokedAt === null)
          .map(view),
      }),
    }),
    defineRoute({
      method: 'post',
      path: '/tokens',
      tag,
      status: 201,
      summary: 'Make a token; its secret is told this once',
      access: { role: 'admin', about: 'appliance' },
      secretFields: ['token'],
      body: z.strictObject({
        name: tokenName,
        role: z.enum(roles),
        vms: z.array(vmName).max(1000).default([]),
        labels: z.array(label).max(32).default([]),
        expires_s: expires.nullish(),
      }),
      answer: issuedAnswer,
      handle: async ({ body, caller }) =>
        issued(
          office.create(
            {
              ...{ name: body.name, role: body.role, vms: body.vms, expiresS: body.expires_s ?? null },
              labels: body.labels.map(({ name, value }) => [name, value]),
            },
            caller,
          ),
        ),
    }),
    defineRoute({
      method: 'get',
      path: '/tokens/{token}',
      tag,
      summary: 'One token, without its secret',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: tokenAnswer,
      handle: async ({ params: { token } }) => view(office.find(token)),
    }),
    defineRoute({
      method: 'post',
      path: '/tokens/{token}/rotate',
      tag,
      summary: 'Give a token a new secret; the old one ends at once',
      access: { role: 'admin', about: 'appliance' },
      secretFields: ['token'],
      params,
      body: z.strictObject({ expires_s: expires.nullish() }),
      answer: issuedAnswer,
      handle: async ({ params: { token }, body }) => issued(office.rotate(token, body.expires_s ?? null)),
    }),
    defineRoute({
      method: 'delete',
      path: '/tokens/{token}',
      tag,
      summary: 'Revoke a token; what is open with it is cut',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: tokenAnswer,
      handle: async ({ params: { token } }) => view(office.revoke(token)),
    }),
  ];
}
