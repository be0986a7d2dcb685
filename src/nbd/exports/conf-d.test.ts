import { expect, it } from 'vitest';
import { confObjection } from './conf-d.ts';

it.each([
  ['# only a comment\n\n', null],
  ['[a]\nexportname = /x\nflush = true\n', null],
  ['garbage\n', '"garbage" is no key = value'],
  ['exportname = /x\n', 'a key stands before the first section'],
  ['[a]\nflush = true\n', '[a] has no exportname'],
  ['[a]\nexportname = /x\nflush = yes\n', 'flush must be true or false'],
  ['[a]\nreadonly = true\n[b]\nexportname = /x\n', '[a] has no exportname'],
])('judges %j as nbd-server does', (text, objection) => {
  expect(confObjection(text)).toBe(objection);
});
