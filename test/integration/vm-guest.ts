import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bytesOf, insideDisk, makePlainDisk, sha256 } from '../support/guest-disk.ts';
import { makeInVm } from '../support/vm-image.ts';
import { MIB, tool } from './restore-fixtures.ts';

/** The file that lies on every file system of the guest, and its digest; each has its own content. */
export const DATA = 'data.bin';
const bytes = (name: string) => bytesOf(`vm/${name}`, 3 * MIB + 17);
export const digestOf = (name: string): string => sha256(bytes(name));

export const PASSPHRASE = 'correct horse "battery" staple\\ü';
/** A name that is no UTF-8, one with a newline, and one as long as a name can be. */
export const evilNames = [
  Buffer.from([0x62, 0xff, 0xfe, 0x64]),
  Buffer.from('two\nlines'),
  Buffer.alloc(255, 'x'),
];
export const CROWD = 20_000;
export const SPARSE_BYTES = 60 * 1024 ** 3;
/** Seconds since 1970 of the file `old`. */
export const OLD_SECONDS = 981_173_106;

/** Sizes in MiB of the partitions of disk 0, in their order. */
const partitions = {
  vfat: 40,
  ext4: 64,
  xfs: 320,
  swap: 8,
  ntfs: 32,
  unknown: 8,
  btrfs: 128,
  luks: 64,
  nested: 48,
} as const;

/**
 * A guest of six disks: partitions of every kind (0); a volume group `vg0` with linear, striped and thin volumes
 * over a whole disk and a partition (1, 2); a RAID1 (3, 4); one ext4 without partitions, full of traps (5).
 * @returns raw images
 */
export function makeGuest(folder: string): string[] {
  mkdirSync(folder, { recursive: true });
  const disks = [0, 1, 2, 3, 4, 5, 6].map((index) => join(folder, `disk${index}.img`));
  const [partitioned = '', lvm1 = '', lvm2 = '', raid1 = '', raid2 = '', traps = '', source = ''] = disks;
  makePartitioned(folder, partitioned);
  for (const disk of [lvm1, lvm2]) empty(disk, 160 * MIB);
  partition(lvm2, [156]);
  for (const disk of [raid1, raid2]) empty(disk, 48 * MIB);
  makeTraps(traps);
  makeSource(folder, source);
  makeInVm(join(folder, 'maker'), script, disks);
  return disks.slice(0, 6);
}

function makePartitioned(folder: string, disk: string): void {
  empty(disk, 700 * MIB);
  partition(disk, Object.values(partitions));
  let offset = 1;
  for (const [kind, sizeMib] of Object.entries(partitions)) {
    const slice = join(folder, 'slice.img');
    empty(slice, sizeMib * MIB);
    formatters[kind]?.(slice);
    execFileSync('dd', [
      ...[`if=${slice}`, `of=${disk}`, 'bs=1M', `seek=${offset}`, 'conv=notrunc,sparse', 'status=none'],
    ]);
    truncateSync(slice, 0);
    offset += sizeMib;
  }
}

const formatters: Readonly<Record<string, (slice: string) => void>> = {
  vfat: (slice) => void tool('mkfs.vfat', '-n', 'EFI', slice),
  // a hostile name: what it holds must reach nobody's shell, log or JSON unescaped
  ext4: (slice) => void tool('mkfs.ext4', '-q', '-F', '-L', 'a"b\\c\nd|e$(x)', slice),
  xfs: (slice) => void tool('mkfs.xfs', '-q', '-f', '-L', 'data', slice),
  swap: (slice) => void tool('mkswap', slice),
  ntfs: (slice) => void tool('mkntfs', '-q', '-Q', '-F', '-L', 'windows', slice),
  unknown: (slice) => writeFileSync(slice, bytesOf('noise', MIB), { flag: 'r+' }),
  btrfs: (slice) => void tool('mkfs.btrfs', '-q', slice),
};

function makeTraps(disk: string): void {
  const slice = makePlainDisk(disk, 256);
  insideDisk(disk, slice, (root) => {
    mkdirSync(join(root, 'crowd'));
    writeFileSync(join(root, DATA), bytes('traps'));
    for (const name of evilNames) writeFileSync(Buffer.concat([Buffer.from(`${root}/`), name]), name);
    symlinkSync('/etc/passwd', join(root, 'absolute'));
    symlinkSync('../../../../etc/passwd', join(root, 'upwards'));
    symlinkSync('/proc/self/root/etc/passwd', join(root, 'magic'));
    symlinkSync('/crowd', join(root, 'inside'));
    writeFileSync(join(root, 'sparse'), '');
    truncateSync(join(root, 'sparse'), SPARSE_BYTES);
    writeFileSync(join(root, 'old'), 'old');
    utimesSync(join(root, 'old'), OLD_SECONDS, OLD_SECONDS);
    for (let index = 0; index < CROWD; index += 1) writeFileSync(join(root, 'crowd', `file-${index}`), '');
  });
}

/** What the maker copies to where it belongs: one file per place, and small file systems for volumes. */
function makeSource(folder: string, disk: string): void {
  const content = join(folder, 'source');
  mkdirSync(content);
  for (const name of [
    'vfat',
    'ext4',
    'xfs',
    'ntfs',
    'btrfs',
    'luks',
    'linear',
    'striped',
    'thin',
    'raid',
    'nested',
  ]) {
    writeFileSync(join(content, name), bytes(name));
  }
  const blank = join(content, 'blank.img');
  empty(blank, 24 * MIB);
  tool('mkfs.ext4', '-q', '-F', blank);
  empty(disk, 128 * MIB);
  tool('mkfs.ext4', '-q', '-F', '-d', content, disk);
  tool('rm', '-r', content);
}

function empty(path: string, sizeBytes: number): void {
  writeFileSync(path, '');
  truncateSync(path, sizeBytes);
}

/** @param sizesMib one after the other from 1 MiB on */
function partition(disk: string, sizesMib: readonly number[]): void {
  const lines = sizesMib.map((size) => `size=${size}MiB, type=linux`);
  execFileSync('sfdisk', ['-q', '--no-reread', '--no-tell-kernel', disk], {
    input: `label: gpt\n${lines.join('\n')}\n`,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
}

/** The ext4 is left as a power cut leaves it: its newest files are in the journal alone. */
const script = `
modprobe -q -a dm-mod md-mod
echo 1 >/sys/block/$(basename $(disk 6))/queue/read_ahead_kb
mount -t ext4 -o ro "$(disk 6)" /src || crash source
fill() { # type device file
  mount -t "$1" "$2" /mnt && cp "/src/$3" /mnt/${DATA} && umount /mnt || crash "$3"
}
d=$(disk 0)
fill vfat "$d"1 vfat
fill xfs "$d"3 xfs
ntfs-3g "$d"5 /mnt && cp /src/ntfs /mnt/${DATA} && umount /mnt || crash ntfs
fill btrfs "$d"7 btrfs
printf '%s' '${PASSPHRASE.replaceAll("'", "'\\''")}' | cryptsetup luksFormat -q --type luks2 --pbkdf argon2id \\
  --pbkdf-memory 32768 --pbkdf-parallel 1 --pbkdf-force-iterations 4 --key-file - "$d"8 &&
printf '%s' '${PASSPHRASE.replaceAll("'", "'\\''")}' | cryptsetup open --key-file - "$d"8 secret || crash luks
volume() { dd if=/src/blank.img of="$1" bs=1M 2>/dev/null && fill ext4 "$1" "$2"; }
volume /dev/mapper/secret luks
cryptsetup close secret || crash luks
# as installers do it: one LUKS around a volume group
printf '%s' '${PASSPHRASE.replaceAll("'", "'\\''")}' | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file - "$d"9 &&
printf '%s' '${PASSPHRASE.replaceAll("'", "'\\''")}' | cryptsetup open --key-file - "$d"9 outer || crash nested
{ lvm pvcreate -q -ff -y /dev/mapper/outer && lvm vgcreate -q inner /dev/mapper/outer &&
  lvm lvcreate -y -q -W n -Z n -n root -L 24M inner; } >/dev/console 2>&1 || crash nested
volume /dev/mapper/inner-root nested

a=$(disk 1) b=$(disk 2)1
{ lvm pvcreate -q -ff -y "$a" "$b" && lvm vgcreate -q vg0 "$a" "$b" &&
  lvm lvcreate -y -q -W n -Z n -n striped -i 2 -L 32M vg0 &&
  lvm lvcreate -y -q -W n -Z n -n linear -l 45 vg0 "$a" "$b" &&
  lvm lvcreate -y -q -L 40M --poolmetadatasize 4M -T vg0/pool && lvm lvcreate -y -q -V 1G -T vg0/pool -n thin; } >/dev/console 2>&1 || crash lvm
for name in linear striped thin; do volume "/dev/mapper/vg0-$name" "$name"; done

yes | mdadm --create /dev/md/store --level=1 --raid-devices=2 --name=store --homehost=web --metadata=1.2 --assume-clean \\
  "$(disk 3)" "$(disk 4)" >/run/md.log 2>&1 || { cat /run/md.log >/dev/console; crash raid; }
volume "/dev/$(ls /sys/block | grep '^md')" raid

mount -t ext4 "$d"2 /mnt || crash ext4
cp /src/ext4 /mnt/${DATA}
sync
mkdir /mnt/late
i=0
while [ $i -lt 300 ]; do echo $i >/mnt/late/file-$i; i=$((i + 1)); done
dd if=/src/ext4 of=/mnt/late/last conv=fsync bs=1M count=1 2>/dev/null
done_making
`;
