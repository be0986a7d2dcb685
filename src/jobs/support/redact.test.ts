import { expect, test } from 'vitest';
import { redact } from './redact.ts';

test.each([
  [
    'a token sds_0123456789ab_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ here',
    'a token [token removed] here',
  ],
  ['-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nrest', '[key removed]\nrest'],
  ['-----BEGIN PRIVATE KEY-----\ncut off', '[key removed]'],
  ['Authorization: Bearer abc.def', 'Authorization: Bearer [removed]'],
  ['{"authorization":"Basic YTpi"}', '{"authorization":"Basic [removed]"}'],
  ['https://me:word@example.org/x', 'https://me:[removed]@example.org/x'],
  ['the word "hunter22" and hunter22', 'the word "[removed]" and [removed]'],
  [JSON.stringify({ line: 'say "what"\n' }), '{"line":"[removed]\\n"}'],
  ['nothing to hide: nbd://127.0.0.1:10809/x at 12:00', 'nothing to hide: nbd://127.0.0.1:10809/x at 12:00'],
])('%j', (text, wanted) => {
  expect(redact(text, ['hunter22', 'say "what"', 'at'])).toBe(wanted);
});
