import { busy, data, type ErrorCodeEntry, environment, user } from './entry.ts';

/** Machines, their disks as a source, and their commands. */
export const machineCodes = {
  VM_UNKNOWN: user(
    404,
    10,
    'No machine is called "{vm}".',
    'List the machines with `sendense-ctl vm list`, or add it with `sendense-ctl vm add`.',
  ),
  VM_EXISTS: user(
    409,
    13,
    'A machine called "{vm}" exists already.',
    'Pick another name, or change the existing one with `sendense-ctl vm set`.',
  ),
  VM_NOT_REGISTERED: user(
    409,
    13,
    'The machine "{vm}" is known only from its backups.',
    'Register it again with `sendense-ctl vm add {vm} --disk …`; its chains go on.',
  ),
  VM_HAS_BACKUPS: user(
    409,
    13,
    'The machine "{vm}" has {count} backups; removing it would orphan them.',
    'Delete the backups first, or remove only the registration with `sendense-ctl vm remove --keep-backups`.',
  ),
  VM_BUSY: busy(
    'The machine "{vm}" is busy with job {job}.',
    'Wait for it with `sendense-ctl job watch {job}`, or stop it with `sendense-ctl job cancel {job}`.',
  ),
  DISK_UNKNOWN: user(
    404,
    10,
    '{subject} has no disk {disk}.',
    'See its disks with `sendense-ctl backup show` or `sendense-ctl vm show`.',
  ),
  DISK_BUSY: busy(
    'The disk {path} is in use by {holder}.',
    'Wait until that is done: `sendense-ctl job list`.',
  ),
  SOURCE_MISSING: environment(
    'The disk {path} does not exist.',
    'Give the absolute path of an image or block device on the host of the daemon. If the disk of a machine moved: `sendense-ctl vm set NAME --remove-disk {path} --add-disk PATH`.',
    false,
    422,
  ),
  SOURCE_UNREADABLE: environment(
    'The disk {path} cannot be read: {detail}',
    'Check its permissions and the storage below it.',
    false,
    422,
  ),
  SOURCE_SIZE_INVALID: environment(
    'The disk {path} has a size of {size} bytes; it must be a multiple of 512 and not 0.',
    'Check that this is a disk image.',
    false,
    422,
  ),
  SOURCE_READ_FAILED: environment(
    'Reading the disk {path} failed at byte {offset}: {detail}',
    'Check the storage below the disk; the earlier restore points are untouched. Then start the backup again.',
  ),
  SOURCE_CHANGED_SIZE: environment(
    'The disk {path} changed its size during the backup.',
    'Start the backup again.',
  ),
  CHANGES_WRONG: environment(
    'The source calls byte {offset} unchanged, but it reads as zeros and the last backup has data there.',
    'The disk was probably made smaller and larger again. A full is made instead; if that fails too, start one with `sendense-ctl backup start --type full`.',
  ),
  SOURCE_IN_USE: busy(
    'The image {path} is being written by another program: {detail}',
    'Stop the machine, or freeze it with --before/--after commands, then try again.',
  ),
  SOURCE_HEADER_REFUSED: data(
    'The qcow2 image {path} is refused: {detail}',
    'Do not trust this image. If its backing file is meant, allow the folder with `sendense-ctl vm set --allow-backing DIR`.',
  ),
  SOURCE_BUSY: busy(
    'The machine {machine} cannot be backed up now: {detail}.',
    'See what is going on with `virsh domjobinfo {machine}`; wait for it, or end it with `virsh domjobabort {machine}`.',
  ),
  SOURCE_LOST: environment(
    'The source of disk {path} went away during the backup: {detail}.',
    'Was the machine stopped or its host restarted? The earlier restore points are untouched; start the backup again.',
  ),
  LIBVIRT_URI_INVALID: user(
    422,
    2,
    'The libvirt URI {uri} is refused: {detail}.',
    'Use one such as qemu:///system or qemu+ssh://root@host/system; log in with a key, as with `ssh root@host true`.',
  ),
  LIBVIRT_FAILED: environment(
    'libvirt at {uri} failed at {command}: {detail}.',
    'Try the same by hand: `virsh -c {uri} list --all`. Is libvirtd running, and may this user connect to it?',
  ),
  LIBVIRT_XML_INVALID: environment(
    'What libvirt says of the machine cannot be read: {detail}',
    'See `virsh dumpxml` of the machine; report it as a bug when that is good XML.',
    false,
  ),
  DOMAIN_UNKNOWN: user(
    404,
    10,
    'libvirt has no domain {domain}: {detail}.',
    'List them with `sendense-ctl vm discover --libvirt`. When it was defined anew with another UUID: `sendense-ctl vm set NAME --libvirt DOMAIN`.',
  ),
  SCRATCH_SPACE: environment(
    'A backup of a running machine needs {needed} of free space in {path} on the libvirt host; {available} are free.',
    'Make room there, or choose another folder with libvirt.scratch_folder in sendense.toml.',
  ),
  HOOK_FAILED: environment(
    'The {hook} command of "{vm}" failed: {detail}.',
    'Run the command by hand to see why; no backup was made.',
    false,
    422,
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
