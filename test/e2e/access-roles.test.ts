import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { TlsApi } from '../support/tls-api.ts';

const roles = ['viewer', 'restore', 'operator', 'admin'] as const;
const order: readonly string[] = roles;
interface Operation {
  readonly 'x-sendense-role'?: string;
  readonly 'x-sendense-about'?: readonly string[];
}
interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

const appliance = new TestAppliance();
let api: TlsApi;
let routes: { method: string; path: string; operation: Operation }[] = [];
const tokens = new Map<string, string>();

beforeAll(async () => {
  await appliance.start(['api.listen=127.0.0.1:0']);
  api = new TlsApi(appliance);
  for (const role of roles) tokens.set(role, api.token(role, role));
  tokens.set('narrow', api.token('narrow', 'operator', '--vm', 'nobody'));
  const document = JSON.parse(appliance.rest('GET', '/api/v1/openapi.json').body) as Document;
  routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  );
});
afterAll(async () => {
  api?.[Symbol.dispose]();
  await appliance.dispose();
});

const placeOf = (path: string) => path.replace(/\{slot\}/, '9').replace(/\{\w+\}/g, 'nothing-there');
const bodyOf = (method: string) => (method === 'get' || method === 'delete' ? undefined : {});
const codeOf = (body: string): string | undefined =>
  (JSON.parse(body === '' ? '{}' : body) as { code?: string }).code;

test('every route says its role and what it is about, as the table in docs/access.md', async () => {
  expect(routes.length).toBeGreaterThan(80);
  const lines = routes.map(({ method, path, operation }) => {
    expect(roles, `${method} ${path}`).toContain(operation['x-sendense-role']);
    const about = operation['x-sendense-about'] ?? [];
    expect(about.length, `${method} ${path}`).toBeGreaterThan(0);
    return `| ${method.toUpperCase()} | \`${path}\` | ${operation['x-sendense-role']} | ${about.join(', ')} |`;
  });
  const text = [
    '# Who may use which route',
    '',
    'Made by `npx vitest run test/e2e/access-roles.test.ts -u` from the routes. Each role may what those before it may: viewer, restore, operator, admin.',
    'About: `none`, no machine; `appliance`, not for tokens of some machines; `listed`, shows only machines of the token; else the fields that name the machine.',
    '',
    '| method | path | role | about |',
    '| --- | --- | --- | --- |',
    ...lines.toSorted(
      (a, b) => (a.split('|')[2] ?? '').localeCompare(b.split('|')[2] ?? '') || a.localeCompare(b),
    ),
    '',
  ].join('\n');
  await expect(text).toMatchFileSnapshot('../../docs/access.md');
});

test('docs/api.md has every route of the daemon with its role, and no other', () => {
  const page = readFileSync('docs/api.md', 'utf8');
  const told = [...page.matchAll(/^### ([A-Z]+) (\S+)\n\n.* Role \*\*(\w+)\*\*/gm)].map((found) =>
    found.slice(1).join(' '),
  );
  const served = routes.map(
    ({ method, path, operation }) => `${method.toUpperCase()} ${path} ${operation['x-sendense-role']}`,
  );
  expect(told.toSorted()).toEqual(served.toSorted());
});

test('what changes something is never for viewers, and what makes others mighty only for admins', () => {
  for (const { method, path, operation } of routes) {
    if (method !== 'get') expect(operation['x-sendense-role'], `${method} ${path}`).not.toBe('viewer');
    if (path.startsWith('/tokens')) expect(operation['x-sendense-role'], path).toBe('admin');
  }
});

test.each(roles)('%s is let in where it may and nowhere else', async (role) => {
  const answers = await Promise.all(
    routes.map(async ({ method, path, operation }) => {
      const { status, body } = await api.ask(
        method.toUpperCase(),
        placeOf(path),
        tokens.get(role) ?? '',
        bodyOf(method),
      );
      const mayIt = order.indexOf(role) >= order.indexOf(operation['x-sendense-role'] ?? '');
      return {
        what: `${method} ${path}`,
        mayIt,
        status,
        refused: status === 403 && codeOf(body) === 'ROLE_TOO_LOW',
      };
    }),
  );
  for (const { what, mayIt, refused, status } of answers) {
    expect(refused, what).toBe(!mayIt);
    expect([401, 429], what).not.toContain(status);
  }
});

test('nobody is let in without a token, whatever the route', async () => {
  for (const { method, path } of routes) {
    const { status, headers } = await api.ask(method.toUpperCase(), placeOf(path), null, bodyOf(method));
    expect(status, `${method} ${path}`).toBe(401);
    expect(headers['www-authenticate']).toBe('Bearer realm="sendense"');
  }
  expect((await api.ask('GET', '/openapi.json', null)).status).toBe(401);
  expect((await api.ask('GET', '/no-such-route', null)).status).toBe(401);
});

test('a token of some machines gets nothing that is about the appliance, or about others', async () => {
  const narrow = tokens.get('narrow') ?? '';
  for (const { method, path, operation } of routes) {
    const about = operation['x-sendense-about'] ?? [];
    if (about.includes('none') || about.includes('listed')) continue;
    const { status, body } = await api.ask(method.toUpperCase(), placeOf(path), narrow, bodyOf(method));
    const what = `${method} ${path}: ${status} ${body.slice(0, 200)}`;
    // 400: the empty body named nothing
    expect(status === 403 || status === 404 || status === 400, what).toBe(true);
    if (about.includes('appliance'))
      expect(status === 400 || ['SCOPE_TOO_NARROW', 'ROLE_TOO_LOW'].includes(codeOf(body) ?? ''), what).toBe(
        true,
      );
  }
});
