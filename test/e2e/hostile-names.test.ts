import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { makePlainDisk } from '../support/guest-disk.ts';
import { requestTo, stateOf } from '../support/rest-client.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-bad-'));
const appliance = new TestAppliance();
const file = (name: string) => join(work, name);
const call = requestTo(appliance);
let before: string[] = [];

beforeAll(async () => {
  makePlainDisk(file('disk'), 16);
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', file('disk'));
  appliance.json('backup', 'start', '--vm', 'm', '--wait');
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

beforeEach(() => {
  before = stateOf(appliance);
});
afterEach(() => {
  expect(stateOf(appliance)).toEqual(before);
});

const tricks = [
  '..',
  '../..',
  '%2e%2e',
  '%2e%2e%2f%2e%2e%2fetc',
  '..%2f..%2fetc%2fshadow',
  '%00',
  'm%00',
  'm%0a',
  '%0d%0aX:%20y',
  'x'.repeat(5000),
  '%C3%BC',
  '%E2%80%AE',
  '%ff',
  '%',
  '%zz',
  '-rf',
  "'%20or%20'1'='1",
  '%25',
  '*',
  '{m}',
];

it.each([
  'GET /vms/?',
  'PATCH /vms/?',
  'DELETE /vms/?',
  'GET /backup/?',
  'DELETE /backup/?',
  'GET /jobs/?',
  'POST /jobs/?/cancel',
  'GET /jobs/?/events',
  'GET /restore/?/files',
  'GET /restore/?/download?path=/etc/shadow',
  'DELETE /restore/?',
  'POST /repositories/?/test',
  'GET /backup/list?vm_name=?',
  'GET /backup/list?cursor=?',
  'GET /backup/chain?vm_name=?',
])('plays tricks with the name in %s', (route) => {
  const [method = '', path = ''] = route.split(' ');
  for (const trick of tricks) {
    const cut = path.lastIndexOf('?') > 0 && path.endsWith('=?') ? path.length - 1 : path.indexOf('?');
    const answer = call(
      method,
      path.slice(0, cut) + trick + path.slice(cut + 1),
      method === 'PATCH' ? {} : undefined,
    );
    expect(answer.headers, trick.slice(0, 40)).toMatch(/application\/problem\+json/i);
    expect([400, 404], trick.slice(0, 40)).toContain(answer.status);
    expect(answer.body).not.toContain('root:');
  }
});
