import { promisify } from 'node:util';
import { zstdCompress } from 'node:zlib';
import { messageOf } from '../../base/sendense-error.ts';
import type { MachineConfiguration } from '../source.ts';
import type { LibvirtConnection } from './connection.ts';

const compress = promisify(zstdCompress);

/**
 * What a restore needs beside the disks. Without secrets: a password of a console does not belong into a repository.
 * @param nvramPath on the libvirt host
 */
export async function saveConfiguration(
  { virsh, host }: LibvirtConnection,
  domain: string,
  nvramPath: string | null,
  checkpointXml: string | null,
  warn: (text: string) => void,
): Promise<MachineConfiguration> {
  // of a running machine too: as it is started the next time
  const xml = await virsh(['dumpxml', domain, '--inactive']);
  const nvram =
    nvramPath === null
      ? null
      : await host.readFile(nvramPath).catch((error: unknown) => {
          warn(`The UEFI variables ${nvramPath} could not be saved: ${messageOf(error)}`);
          return null;
        });
  return {
    kind: 'libvirt',
    domain_xml: xml,
    checkpoint_xml: checkpointXml,
    nvram_zst: nvram === null ? null : (await compress(nvram)).toString('base64'),
  };
}
