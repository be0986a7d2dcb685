import { expect, it } from 'vitest';
import { mountPointIn } from './mount-point.ts';

const mountinfo = [
  '22 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw',
  '30 22 0:26 / /mnt/nas rw,relatime shared:9 - nfs4 nas:/export rw',
  '31 22 0:27 / /mnt/my\\040disk rw - ext4 /dev/sdb1 rw',
  '32 22 0:28 / /auto rw - autofs systemd-1 rw',
  '33 30 0:29 / /mnt/nas/deep rw - tmpfs tmpfs rw',
  '',
].join('\n');

it.each([
  ['/srv/backups', '/'],
  ['/mnt/nas', '/mnt/nas'],
  ['/mnt/nas/a/b', '/mnt/nas'],
  ['/mnt/nas2', '/'],
  ['/mnt/nas/deep/er', '/mnt/nas/deep'],
  ['/mnt/my disk/x', '/mnt/my disk'],
  ['/auto/usb', '/'],
])('%s lies on the mount %s', (path, place) => {
  expect(mountPointIn(mountinfo, path)).toBe(place);
});
