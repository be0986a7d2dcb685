import { expect, test } from 'vitest';
import { checkMounts, type MountMeans } from './check-mounts.ts';

const good: MountMeans = {
  uid: 0,
  hasMountd: true,
  allowsOther: false,
  vm: { isAvailable: true, image: { kernel: '/k', initrd: '/i', version: '6.1' } },
  hasProgram: () => true,
};

test('a machine that has everything is well', () => {
  expect(checkMounts(good).map(({ result }) => result)).toEqual(['ok', 'ok', 'ok']);
});

test.each<[string, Partial<MountMeans>, string, string]>([
  ['no mountd', { uid: 1000, hasMountd: false }, 'mountd', 'Start sendense-mountd as root'],
  ['a user whose files root cannot read', { uid: 1000 }, 'mountd', 'user_allow_other'],
  [
    'no ntfs-3g',
    { hasProgram: (name) => name !== 'ntfs-3g' },
    'file system readers',
    'apt-get install ntfs-3g',
  ],
  ['no LVM', { hasProgram: (name) => name !== 'pvck' }, 'file system readers', 'apt-get install lvm2'],
  [
    'no kernel for the VM',
    { vm: { isAvailable: false, reason: 'its kernel has not been built', action: 'scripts/build-vm' } },
    'mount mode vm',
    'scripts/build-vm',
  ],
])('%s is found, with what to do', (_what, means, check, next) => {
  const findings = checkMounts({ ...good, ...means }).filter(({ result }) => result !== 'ok');
  expect(findings).toMatchObject([{ check, result: 'warn', next: expect.stringContaining(next) }]);
});

test('a user with mountd and a fuse.conf for it is well', () => {
  expect(checkMounts({ ...good, uid: 1000, allowsOther: true })[0]).toMatchObject({ result: 'ok' });
});
