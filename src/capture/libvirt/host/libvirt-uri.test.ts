import { expect, it } from 'vitest';
import { parseLibvirtUri } from './libvirt-uri.ts';

it.each([
  ['qemu:///system', null],
  ['qemu:///session?socket=/run/user/1000/libvirt/libvirt-sock', null],
  ['qemu+unix:///system', null],
  ['qemu+ssh://host/system', { host: 'host', user: null, port: null, keyFile: null, skipsHostKey: false }],
  [
    'qemu+ssh://root@kvm1.example:2222/system?keyfile=/etc/sendense/key&no_verify=1',
    { host: 'kvm1.example', user: 'root', port: 2222, keyFile: '/etc/sendense/key', skipsHostKey: true },
  ],
])('takes %s', (uri, ssh) => {
  expect(parseLibvirtUri(uri)).toEqual({ uri, ssh });
});

it.each([
  'web1',
  'test:///default',
  'qemu+tcp://host/system',
  'qemu+ext:///system?command=/bin/evil',
  'qemu+ssh://host/system?command=/bin/evil',
  'qemu+ssh://host/system?netcat=evil',
  'qemu+ssh://-oProxyCommand=evil/system',
  'qemu+ssh://-l@host/system',
  'qemu+ssh://root:secret@host/system',
  'qemu://host/system',
  'qemu:///elsewhere',
  'qemu+ssh:///system',
])('refuses %s', (uri) => {
  expect(() => parseLibvirtUri(uri)).toThrow(expect.objectContaining({ code: 'LIBVIRT_URI_INVALID' }));
});
