import { expect, test } from 'vitest';
import { agreeOn } from './versions.ts';

test.each([
  [{ oldest: 1, newest: 1 }, { oldest: 1, newest: 1 }, 1],
  [{ oldest: 2, newest: 4 }, { oldest: 1, newest: 3 }, 3],
  [{ oldest: 1, newest: 2 }, { oldest: 2, newest: 9 }, 2],
])('%j and %j agree on %i', (ours, theirs, version) => {
  expect(agreeOn(ours, theirs)).toBe(version);
});

test.each([
  [
    { oldest: 3, newest: 4 },
    { oldest: 1, newest: 2 },
    'version 2 of the protocol, and 3 is needed: it is too old',
  ],
  [
    { oldest: 1, newest: 2 },
    { oldest: 3, newest: 3 },
    'version 3 of the protocol, and 2 is needed: it is too new',
  ],
])('%j and %j do not', (ours, theirs, why) => {
  expect(() => agreeOn(ours, theirs)).toThrow(why);
});
