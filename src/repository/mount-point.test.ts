import { expect, it } from 'vitest';
import { mountPointIn } from './mount-point.ts';

const mountinfo = [
  '22 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw',
  '30 22 0:26 / /mnt/nas rw,relatime shared:9 - nfs4 nas:/export rw',
  '31 22 0:27 / /mnt/my\\040disk rw - ext4 /dev/sdb1 rw',
  '32 22 0:28 / /auto rw - autofs systemd-1 rw',
  '33 30 0:29 / /mnt/nas/deep rw - tmpfs tmpfs rw',
  // what systemd does with the folder of a service: on the root file system, on a disk of its own, in a container
  '34 22 254:0 /var/lib/own /var/lib/own rw - ext4 /dev/vda1 rw',
  '35 22 0:30 / /var/lib/disk rw - xfs /dev/sdc rw',
  '36 35 0:30 / /var/lib/disk rw - xfs /dev/sdc rw',
  '37 22 254:3 /roots/a /srv/root rw - ext4 /dev/vdb rw',
  '38 37 254:3 /roots/a/var/own /srv/root/var/own rw - ext4 /dev/vdb rw',
  // another folder of the same file system
  '39 22 254:0 /data/backups /srv/elsewhere rw - ext4 /dev/vda1 rw',
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
  ['/var/lib/own/backups', '/'],
  ['/var/lib/disk/backups', '/var/lib/disk'],
  ['/srv/root/var/own/backups', '/srv/root'],
  ['/srv/elsewhere/web1', '/srv/elsewhere'],
])('%s lies on the mount %s', (path, place) => {
  expect(mountPointIn(mountinfo, path)).toBe(place);
});
