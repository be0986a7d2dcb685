/** A program of user space that shows one kind of file system, read-only. */
export interface FuseProgram {
  readonly tool: string;
  /** In the foreground, nothing written, no devices, no programs. */
  readonly args: (file: string, target: string, options: { readonly replay: boolean }) => readonly string[];
  /** Brings the journal into the file system before; what it fails with makes the answer `degraded`. */
  readonly replay: ((file: string) => readonly [tool: string, ...args: string[]]) | null;
  /** Cannot run without root. */
  readonly needsRoot: boolean;
}

const COMMON = 'ro,nosuid,nodev,noexec';

const ext: FuseProgram = {
  tool: 'fuse2fs',
  // fakeroot: whoever runs the appliance reads every file; the guest's permissions mean nothing here
  args: (file, target, { replay }) => [
    '-f',
    '-o',
    `${COMMON},fakeroot${replay ? '' : ',norecovery'}`,
    file,
    target,
  ],
  replay: (file) => ['e2fsck', '-E', 'journal_only', '-y', file],
  needsRoot: false,
};

const programs: Readonly<Record<string, FuseProgram>> = {
  ext2: ext,
  ext3: ext,
  ext4: ext,
  ntfs: {
    tool: 'ntfs-3g',
    args: (file, target) => [
      '-o',
      `${COMMON},no_detach,show_sys_files,streams_interface=xattr`,
      file,
      target,
    ],
    replay: null,
    needsRoot: true,
  },
  exfat: {
    tool: 'mount.exfat-fuse',
    args: (file, target) => ['-f', '-o', COMMON, file, target],
    replay: null,
    needsRoot: false,
  },
  iso9660: {
    tool: 'fuseiso',
    args: (file, target) => ['-n', file, target, '-f', '-o', COMMON],
    replay: null,
    needsRoot: false,
  },
  squashfs: {
    tool: 'squashfuse',
    args: (file, target) => ['-f', '-o', COMMON, file, target],
    replay: null,
    needsRoot: false,
  },
};

export function fuseProgramFor(fsType: string): FuseProgram | null {
  return Object.hasOwn(programs, fsType) ? (programs[fsType] ?? null) : null;
}
