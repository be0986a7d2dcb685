import { expect, test } from 'vitest';
import { type AccessFacts, checkAccess } from './check-access.ts';

const good: AccessFacts = {
  now: new Date('2026-05-01T12:00:00Z'),
  certificateUntil: '2027-05-01T12:00:00Z',
  isOwnCertificate: true,
  secrets: [{ path: '/s', mode: 0o40700 }],
  isSynchronised: true,
  jumpS: 0.2,
};

test('an appliance that has everything is well, also where nothing can be told', () => {
  for (const facts of [good, { ...good, certificateUntil: null, isSynchronised: null, secrets: [] }])
    expect(checkAccess(facts).map(({ result }) => result)).toEqual(['ok', 'ok', 'ok']);
});

test.each<[string, Partial<AccessFacts>, string, string, string]>([
  [
    'a certificate that ends soon',
    { certificateUntil: '2026-05-20T00:00:00Z' },
    'certificate',
    'warn',
    'own.key',
  ],
  [
    'one of others that has ended',
    { certificateUntil: '2026-04-30T00:00:00Z', isOwnCertificate: false },
    'certificate',
    'failed',
    'api.tls_certificate',
  ],
  ['a key for everybody', { secrets: [{ path: '/k', mode: 0o100644 }] }, 'rights', 'failed', 'chmod o= /k'],
  ['a clock that nobody sets', { isSynchronised: false }, 'time server', 'warn', 'set-ntp'],
  ['a clock that jumped', { jumpS: -3600 }, 'time server', 'warn', 'set-ntp'],
])('%s is found, with what to do', (_what, facts, check, result, next) => {
  const findings = checkAccess({ ...good, ...facts }).filter((finding) => finding.result !== 'ok');
  expect(findings).toMatchObject([{ check, result, next: expect.stringContaining(next) }]);
});
