import { randomUUID } from 'node:crypto';
import { SendenseError } from '../../base/sendense-error.ts';
import { append, elementsAt, parseXml, textAt, writeXml } from '../../capture/libvirt/xml/parse-xml.ts';

export interface RestoredDisk {
  /** As in `vda`. */
  readonly target: string;
  /** Of the new image on the libvirt host, always qcow2. */
  readonly path: string;
}

export interface RestoredDomainOptions {
  readonly name: string;
  /** `none`: no network card, so that two of the same do not meet; `same`: on the same networks, with new addresses. */
  readonly network: 'none' | 'same';
  /** UUID and MAC addresses as they were: only when the old machine is gone for good. */
  readonly keepIdentity: boolean;
  readonly disks: readonly RestoredDisk[];
  /** Where the UEFI variables will be; null: libvirt makes new ones from its template. */
  readonly nvramPath: string | null;
}

export interface RestoredDomain {
  readonly xml: string;
  readonly uuid: string;
  /** What was left out, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * The domain of a restore point as a machine of its own, beside the one that it was.
 * @param saved the XML of the restore point
 * @throws LIBVIRT_XML_INVALID
 */
export function restoredDomain(saved: string, options: RestoredDomainOptions): RestoredDomain {
  const document = parseXml(saved);
  const root = document.documentElement;
  if (root === null || root.tagName !== 'domain')
    throw new SendenseError('LIBVIRT_XML_INVALID', { detail: 'it is no domain' });
  const notes: string[] = [];
  const all = (xpath: string) => elementsAt(document, xpath);
  const remove = (xpath: string) => {
    const found = all(xpath);
    for (const element of found) element.parentNode?.removeChild(element);
    return found.length;
  };
  const uuid = options.keepIdentity ? (textAt(document, '/domain/uuid') ?? randomUUID()) : randomUUID();
  remove('/domain/name | /domain/uuid');
  append(root, 'name', {}, options.name);
  append(root, 'uuid', {}, uuid);
  root.removeAttribute('id');
  // Windows must learn that it is a copy
  for (const genid of all('/domain/genid')) genid.textContent = '';
  // the default one of the host that it comes to
  remove('/domain/devices/emulator');
  for (const disk of all('/domain/devices/disk')) {
    const target = textAt(disk, 'target/@dev') ?? '';
    const restored = options.disks.find((one) => one.target === target);
    for (const old of elementsAt(disk, 'source | backingStore | mirror')) disk.removeChild(old);
    if (restored === undefined) {
      const device = textAt(disk, '@device') ?? 'disk';
      // a drive stays, with nothing in it
      if (device === 'cdrom' || device === 'floppy') continue;
      disk.parentNode?.removeChild(disk);
      notes.push(`The disk ${target} is not in this backup; the machine is without it.`);
      continue;
    }
    disk.setAttribute('type', 'file');
    for (const driver of elementsAt(disk, 'driver')) driver.setAttribute('type', 'qcow2');
    if (elementsAt(disk, 'driver').length === 0) append(disk, 'driver', { name: 'qemu', type: 'qcow2' });
    append(disk, 'source', { file: restored.path });
  }
  if (options.network === 'none') {
    if (remove('/domain/devices/interface') > 0)
      notes.push('It has no network card; with --network same it is on the networks it was on.');
  } else if (!options.keepIdentity) remove('/domain/devices/interface/mac');
  // names of devices of the host, which the old machine may hold
  remove('/domain/devices/interface/target');
  if (remove('/domain/devices/hostdev') > 0) notes.push('Devices of its host that it had are left out.');
  if (all('/domain/devices/tpm').length > 0) notes.push('Its TPM begins empty.');
  for (const source of all("/domain/devices/channel[@type='unix']/source"))
    source.parentNode?.removeChild(source);
  for (const graphics of all('/domain/devices/graphics[@port]')) {
    graphics.removeAttribute('port');
    graphics.setAttribute('autoport', 'yes');
  }
  remove('/domain/os/nvram[not(@template)]');
  for (const nvram of all('/domain/os/nvram')) nvram.textContent = '';
  const [os] = all('/domain/os');
  if (options.nvramPath !== null && os !== undefined) {
    const [kept] = elementsAt(os, 'nvram');
    if (kept) kept.textContent = options.nvramPath;
    else append(os, 'nvram', {}, options.nvramPath);
  }
  return { xml: writeXml(document), uuid, notes };
}

/** What the host must be able to run. */
export function platformOf(saved: string): { virtType: string; arch: string; machine: string } {
  const document = parseXml(saved);
  return {
    virtType: textAt(document, '/domain/@type') ?? 'kvm',
    arch: textAt(document, '/domain/os/type/@arch') ?? 'x86_64',
    machine: textAt(document, '/domain/os/type/@machine') ?? '',
  };
}
