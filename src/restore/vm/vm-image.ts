import { access, constants, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';

/** What `scripts/build-vm` makes. */
export interface VmImage {
  readonly kernel: string;
  readonly initrd: string;
  /** Release of the kernel, as `uname -r` says it. */
  readonly version: string;
}

/** Whether guests can be mounted in a VM, else why not and what to do about it. */
export type VmAvailability =
  | { readonly isAvailable: true; readonly image: VmImage }
  | { readonly isAvailable: false; readonly reason: string; readonly action: string };

/** The programs of the host, and the Debian packages that bring them. */
const tools: Readonly<Record<string, string>> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  sshfs: 'sshfs',
  fusermount3: 'fuse3',
};

/** @param vmFolder where `scripts/build-vm` put its result */
export async function vmAvailability(vmFolder: string): Promise<VmAvailability> {
  const missing: string[] = [];
  for (const [tool, package_] of Object.entries(tools))
    if (!(await isInstalled(tool))) missing.push(package_);
  if (missing.length > 0)
    return {
      isAvailable: false,
      reason: `these packages are not installed: ${missing.join(', ')}`,
      action: `apt-get install ${missing.join(' ')}`,
    };
  if (!(await isReadable('/dev/fuse')))
    return { isAvailable: false, reason: 'there is no /dev/fuse', action: 'modprobe fuse' };
  const version = await readFile(join(vmFolder, 'version'), 'utf8').catch(() => null);
  const image = { kernel: join(vmFolder, 'kernel'), initrd: join(vmFolder, 'initrd') };
  if (version === null || !(await isReadable(image.kernel)) || !(await isReadable(image.initrd)))
    return {
      isAvailable: false,
      reason: `its kernel has not been built in ${vmFolder}`,
      action: 'scripts/build-vm',
    };
  return { isAvailable: true, image: { ...image, version: version.trim() } };
}

/** @throws VM_UNAVAILABLE */
export async function requireVmImage(vmFolder: string): Promise<VmImage> {
  const availability = await vmAvailability(vmFolder);
  if (availability.isAvailable) return availability.image;
  const { reason, action } = availability;
  throw new SendenseError('VM_UNAVAILABLE', { detail: reason, action });
}

async function isInstalled(tool: string): Promise<boolean> {
  for (const folder of (process.env['PATH'] ?? '').split(':'))
    if (folder !== '' && (await isReadable(join(folder, tool), constants.X_OK))) return true;
  return false;
}

async function isReadable(path: string, mode: number = constants.R_OK): Promise<boolean> {
  return await access(path, mode).then(
    () => true,
    () => false,
  );
}
