import { expect, it } from 'vitest';
import { connectLines } from './connect-lines.ts';

const unix = {
  exportName: 'disk0',
  writable: false,
  socketPath: "/srv/it's & co/nbd.sock",
  host: '127.0.0.1',
  port: 0,
  pskIdentity: null,
};

it('is safe to paste, whatever the home is called', () => {
  const lines = connectLines(unix);
  expect(lines.nbdClient).toBe(`nbd-client -unix '/srv/it'\\''s & co/nbd.sock' -N disk0 /dev/nbd0`);
  expect(lines.uri).toBe("nbd+unix:///disk0?socket=/srv/it's%20%26%20co/nbd.sock");
  expect(lines.libvirt).toContain(`socket='/srv/it&apos;s &amp; co/nbd.sock'`);
  expect(lines.libvirt).toContain('<readonly/>');
  expect(lines.qemu).toContain('readonly=on');
});

it('names the key where there is TLS, and offers nothing that cannot work', () => {
  const lines = connectLines({ ...unix, socketPath: null, port: 10900, pskIdentity: 'sendense' });
  expect(lines.uri).toMatch(/^nbds:\/\/sendense@127\.0\.0\.1:10900\/disk0\?tls-psk-file=/);
  expect(lines).toMatchObject({ libvirt: null, nbdClient: null });
  expect(lines.qemu).toContain('tls-creds=live0');
});

it('puts an IPv6 address in brackets only in an address', () => {
  const lines = connectLines({ ...unix, writable: true, socketPath: null, host: '::1', port: 10900 });
  expect(lines.uri).toBe('nbd://[::1]:10900/disk0');
  expect(lines.nbdClient).toBe('nbd-client ::1 10900 -N disk0 /dev/nbd0');
  expect(lines.libvirt).not.toContain('readonly');
});
