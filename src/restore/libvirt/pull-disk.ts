import { setTimeout as sleep } from 'node:timers/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import type { LibvirtConnection } from '../../capture/libvirt/connection.ts';
import { elementsAt, parseXml } from '../../capture/libvirt/xml/parse-xml.ts';

const LOOK_MS = 250;

/**
 * Lets a running machine take in everything that its disk still reads from the backup. When it returns, the image stands
 * alone.
 * @throws PULL_FAILED, LIBVIRT_FAILED, CANCELLED
 */
export async function pullDisk(
  { virsh }: LibvirtConnection,
  domain: string,
  target: string,
  onProgress: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  await virsh(['blockpull', domain, target]);
  for (;;) {
    signal.throwIfAborted();
    const text = await virsh(['blockjob', domain, target, '--raw']);
    const [, done] = /cur=(\d+)/.exec(text) ?? [];
    if (done === undefined) break;
    onProgress(Number(done));
    await sleep(LOOK_MS);
  }
  // a job that failed has just gone, like one that is done
  const document = parseXml(await virsh(['dumpxml', domain]));
  const backing = `/domain/devices/disk[target/@dev='${target}']/backingStore/source`;
  if (elementsAt(document, backing).length > 0)
    throw new SendenseError('PULL_FAILED', { domain, disk: target });
}
