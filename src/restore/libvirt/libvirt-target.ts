import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { SendenseError } from '../../base/sendense-error.ts';
import { type LibvirtConnection, withXmlFile } from '../../capture/libvirt/connection.ts';
import type { Forwarded } from '../../capture/libvirt/host/host.ts';
import { complaintOf } from '../../capture/libvirt/host/virsh.ts';
import { platformOf } from './restored-domain.ts';

const decompress = promisify(zstdDecompress);

/** Can this libvirt run the machine at all? Asked before a byte is written. @throws MACHINE_NOT_SUPPORTED */
export async function checkPlatform({ virsh }: LibvirtConnection, saved: string): Promise<void> {
  const { virtType, arch, machine } = platformOf(saved);
  try {
    await virsh(['domcapabilities', '--virttype', virtType, '--arch', arch, '--machine', machine]);
  } catch (error) {
    const detail = complaintOf(error);
    if (detail === null) throw error;
    throw new SendenseError('MACHINE_NOT_SUPPORTED', { machine, arch, virt_type: virtType, detail }, error);
  }
}

/** @throws DOMAIN_EXISTS */
export async function checkNameIsFree({ virsh }: LibvirtConnection, name: string): Promise<void> {
  const names = (await virsh(['list', '--all', '--name'])).split('\n').map((line) => line.trim());
  if (names.includes(name)) throw new SendenseError('DOMAIN_EXISTS', { domain: name });
}

/** @throws OUTPUT_EXISTS */
export async function checkFilesAreFree(
  { host }: LibvirtConnection,
  paths: readonly string[],
): Promise<void> {
  for (const path of paths) {
    const found = await host.run('sh', ['-c', 'if [ -e "$1" ]; then echo yes; fi', 'sh', path]);
    if (found.trim() !== '') throw new SendenseError('OUTPUT_EXISTS', { path });
  }
}

/** Gives a file to whom its folder belongs, where that is allowed: QEMU is seldom the user that we are. */
export async function giveToFolder({ host }: LibvirtConnection, folder: string, path: string): Promise<void> {
  const script = 'if [ "$(id -u)" -eq 0 ]; then chown --reference="$1" -- "$2"; fi';
  await host.run('sh', ['-c', script, 'sh', folder, path]);
}

/** The UEFI variables of a restore point as a file of the libvirt host. */
export async function writeNvram(connection: LibvirtConnection, saved: string, path: string): Promise<void> {
  const bytes = await decompress(Buffer.from(saved, 'base64'));
  await connection.host.writeFile(path, bytes);
}

/**
 * A new image on a libvirt elsewhere, behind a socket of this side.
 * @returns an NBD URI to write to, until it is disposed
 */
export async function openRemoteImage(
  { host, scratchFolder }: LibvirtConnection,
  path: string,
  sizeBytes: number,
): Promise<AsyncDisposable & { readonly uri: string }> {
  await host.run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(sizeBytes)]);
  const socket = join(scratchFolder, `sendense-restore-${randomBytes(5).toString('hex')}.sock`);
  const args = ['-t', '-f', 'qcow2', '--discard=unmap', '--detect-zeroes=unmap', '-e', '8', '-k', socket];
  const server: Forwarded = await host.serve('qemu-nbd', [...args, '--', path], socket);
  return {
    uri: `nbd+unix:///?socket=${encodeURIComponent(server.socketPath)}`,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await host.removeFiles([socket]);
    },
  };
}

/** @returns takes the domain away again */
export async function defineDomain(connection: LibvirtConnection, xml: string, uuid: string) {
  await withXmlFile(connection, xml, (file) => connection.virsh(['define', file]));
  return async () => {
    await connection.virsh(['destroy', uuid]).catch(() => undefined); // it need not run
    await connection.virsh(['undefine', uuid, '--keep-nvram']).catch(() =>
      // without UEFI libvirt knows no such option
      connection.virsh(['undefine', uuid]),
    );
  };
}
