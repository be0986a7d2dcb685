import { expect, it } from 'vitest';
import { SendenseError } from '../../base/sendense-error.ts';
import { parsePolicyFile } from './policy-file.ts';

const text = `policies:
  - name: a
    machines: { names: [web1] }
    since: { backup: 2026-11-21T00:00:00.000Z }
    machine_count: 1
  - name: b
    schedul: daily at 22:00
    verify:
      percent: 101
`;
const refusal = (detail: string) => new SendenseError('REQUEST_INVALID', { detail });
const told = (detail: string) => {
  const error = parsePolicyFile('p.yaml', text).withLine(refusal(detail));
  return error instanceof SendenseError ? [error.code, error.fields['detail']] : [];
};

it.each([
  ['policies[1] has no "schedul"; it may have name, schedule', 7],
  ['policies[1].verify.percent is 101; it must be at most 100', 9],
  ['policies[1].verify.schedule is missing', 8],
  ['policies[0].machines is missing', 3],
  ['policies[1].machines is missing', 6],
])('%s: line %i', (detail, line) => {
  expect(told(detail)).toEqual(['REQUEST_INVALID', `p.yaml: line ${line}: ${detail}`]);
});

it('leaves alone what speaks of something else', () => {
  expect(told('prune is "x"; it must be true or false')).toEqual(['REQUEST_INVALID', expect.any(String)]);
  const other = new Error('away');
  expect(parsePolicyFile('p.yaml', text).withLine(other)).toBe(other);
});

it('takes what `policy list -o yaml` prints', () => {
  expect(parsePolicyFile('p.yaml', text).policies).toMatchObject([{ name: 'a' }, { name: 'b' }]);
  expect(JSON.stringify(parsePolicyFile('p.yaml', text).policies)).not.toMatch(/since|machine_count/);
});

it('names the line of what is no YAML', () => {
  expect(() => parsePolicyFile('p.yaml', 'policies:\n  - name: a\n   schedule: x\n')).toThrow(
    /p\.yaml: .*line 3/s,
  );
});
