import { expect, it } from 'vitest';
import { isNbdUri, parseNbdUri } from './nbd-uri.ts';

it('reads both kinds of address', () => {
  expect(parseNbdUri('nbd://backup.example:10900/disk%20a')).toEqual({
    driver: 'nbd',
    server: { type: 'inet', host: 'backup.example', port: '10900' },
    export: 'disk a',
  });
  expect(parseNbdUri('nbd://[::1]')).toEqual({
    driver: 'nbd',
    server: { type: 'inet', host: '::1', port: '10809' },
    export: '',
  });
  expect(parseNbdUri('nbd+unix:///a?socket=/run/x%2Cy.sock')).toEqual({
    driver: 'nbd',
    server: { type: 'unix', path: '/run/x,y.sock' },
    export: 'a',
  });
});

it.each([
  'nbd://',
  'nbd:///a',
  'nbd://host:0/a',
  'nbd://host:70000/a',
  'nbd://host/a?tls=on',
  'nbd://user@host/a',
  'nbd+unix:///a',
  'nbd+unix:///a?socket=relative',
  'nbd+unix://host/a?socket=/x',
  'nbds://host/a',
  'nbd+vsock://1/a',
  'nbd://host/%zz',
])('refuses %s', (uri) => {
  expect(isNbdUri(uri)).toBe(true);
  expect(() => parseNbdUri(uri)).toThrow(expect.objectContaining({ code: 'OUTPUT_INVALID' }));
});

it('takes no path for an address', () => {
  expect(isNbdUri('/srv/nbd://x')).toBe(false);
});
