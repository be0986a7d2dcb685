import { expect, test } from 'vitest';
import { checkHost, type Host, type HostNeeds } from './check-host.ts';

const good: Host = {
  uid: 0,
  fuse: { hasDevice: true, uid: 0, gainsNothing: false },
  now: new Date('2026-05-01T12:00:00Z'),
  exists: () => true,
  hasProgram: () => true,
};
const noDevice = { ...good.fuse, hasDevice: false };
const hardened = { hasDevice: true, uid: 999, gainsNothing: true };
const needs: HostNeeds = { mountMode: 'loop', writesOverFuse: true, newestBackup: null };
const results = (host: Partial<Host>, more: Partial<HostNeeds> = {}) =>
  checkHost({ ...good, ...host }, { ...needs, ...more })
    .filter((finding) => finding.result !== 'ok')
    .map((finding) => [finding.check, finding.result, finding.next ?? '']);
const without = (missing: string) => (name: string) => name !== missing;

test('a machine that has everything is well', () => {
  expect(results({})).toEqual([]);
});

test.each<[string, Partial<Host>, Partial<HostNeeds>, [string, string, string][]]>([
  [
    'no loop devices',
    { exists: without('/dev/loop-control') },
    {},
    [['loop devices', 'warn', 'modprobe loop']],
  ],
  ['no FUSE', { fuse: noDevice }, {}, [['fuse', 'failed', 'exports.backend']]],
  ['no FUSE to write', { fuse: noDevice }, { writesOverFuse: false }, [['fuse', 'failed', 'modprobe fuse']]],
  ['a hardened service', { uid: 999, fuse: hardened }, {}, [['fuse', 'failed', 'exports.backend']]],
  [
    'a hardened service that mounts by nbd',
    { uid: 999, fuse: hardened, exists: without('/sys/module/nbd') },
    { writesOverFuse: false, mountMode: 'kernel-nbd' },
    [
      ['fuse', 'warn', 'fuse.conf'],
      ['nbd module', 'warn', 'modprobe nbd.'],
    ],
  ],
  [
    'no nbd module that is wanted',
    { exists: without('/sys/module/nbd') },
    { mountMode: 'kernel-nbd' },
    [['nbd module', 'warn', 'modprobe nbd']],
  ],
  ['no nbd module that nobody wants', { exists: without('/sys/module/nbd') }, {}, []],
  ['no zstd', { hasProgram: without('zstd') }, {}, [['programs', 'failed', 'apt-get install zstd']]],
  ['no losetup', { hasProgram: without('losetup') }, {}, [['programs', 'failed', 'apt-get install mount']]],
  ['no fusermount3 as root', { hasProgram: without('fusermount3') }, {}, []],
  ['a clock without battery', { now: new Date(0) }, {}, [['clock', 'failed', 'Set the clock']]],
  [
    'a clock that went back',
    {},
    { newestBackup: { id: 'backup-m', createdAt: '2026-05-01T13:00:00.000Z' } },
    [['clock', 'warn', 'Set the clock']],
  ],
])('%s is found, with what to do', (_what, host, more, wanted) => {
  expect(results(host, more)).toEqual(
    wanted.map(([check, result, next]) => [check, result, expect.stringContaining(next)]),
  );
});
