import { access, constants, readFile, writeFile } from 'node:fs/promises';
import { run } from '../../base/process/run.ts';
import { type Accelerator, probeArguments } from './qemu-arguments.ts';
import type { VmImage } from './vm-image.ts';

/** A kernel that runs is through in less than a second; one that hangs must not cost more than this. */
const PROBE_TIMEOUT_MS = 4_000;

const known = new Map<string, Promise<Accelerator>>();

/**
 * Whether the VM's kernel really runs under KVM. A /dev/kvm says little: in some clouds it opens, makes a VM, and
 * then hangs every stock kernel. So it is tried once per boot of the host, and remembered.
 * @param rememberFile where the answer is kept for the next daemon; it is only a cache
 */
export function chooseAccelerator(
  image: VmImage,
  rememberFile: string,
  kvmDevice = '/dev/kvm',
): Promise<Accelerator> {
  const key = `${rememberFile}\0${image.kernel}\0${image.version}`;
  const answer = known.get(key) ?? decide(image, rememberFile, kvmDevice);
  known.set(key, answer);
  return answer;
}

async function decide(image: VmImage, rememberFile: string, kvmDevice: string): Promise<Accelerator> {
  const isThere = await access(kvmDevice, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!isThere) return 'tcg';
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  const when = `${bootId.trim()} ${image.version}`;
  const remembered = await readFile(rememberFile, 'utf8').catch(() => '');
  if (remembered === `${when} kvm`) return 'kvm';
  if (remembered === `${when} tcg`) return 'tcg';
  const accelerator = await tryKvm(image);
  await writeFile(rememberFile, `${when} ${accelerator}`, { mode: 0o600 }).catch(() => undefined);
  return accelerator;
}

async function tryKvm(image: VmImage): Promise<Accelerator> {
  try {
    await run('qemu-system-x86_64', probeArguments(image, 'kvm'), { timeoutMs: PROBE_TIMEOUT_MS });
    return 'kvm';
  } catch {
    // whatever is wrong with it: emulation always works
    return 'tcg';
  }
}
