import type { DiskFormat } from '../../../base/source-reference.ts';
import { elementsAt, parseXml, textAt } from './parse-xml.ts';

export interface DomainDisk {
  /** As in `vda`; the name that backups know it by. */
  readonly target: string;
  /** Null: none that a backup can read. */
  readonly format: DiskFormat | null;
  /** Of the libvirt host; null for disks that are no file and no block device there. */
  readonly path: string | null;
  /** Why it is never backed up; null: it can be. */
  readonly unfit: string | null;
}

export interface Domain {
  readonly uuid: string;
  readonly name: string;
  readonly disks: readonly DomainDisk[];
  /** Of the UEFI variables on the libvirt host; null: there are none in a file. */
  readonly nvramPath: string | null;
}

/** @param xml of `virsh dumpxml` @throws LIBVIRT_XML_INVALID */
export function readDomain(xml: string): Domain {
  const document = parseXml(xml);
  return {
    uuid: textAt(document, '/domain/uuid') ?? '',
    name: textAt(document, '/domain/name') ?? '',
    nvramPath: textAt(document, '/domain/os/nvram/source/@file') ?? bareNvram(document),
    disks: elementsAt(document, '/domain/devices/disk').map((disk): DomainDisk => {
      const driver = textAt(disk, 'driver/@type');
      const format = driver === 'qcow2' || driver === 'raw' ? driver : null;
      return {
        target: textAt(disk, 'target/@dev') ?? '',
        format,
        path: textAt(disk, 'source/@file') ?? textAt(disk, 'source/@dev'),
        unfit: unfitBecause(
          textAt(disk, '@device') ?? 'disk',
          elementsAt(disk, 'readonly').length > 0,
          format,
          elementsAt(disk, 'source').length > 0,
        ),
      };
    }),
  };
}

/** `<nvram>PATH</nvram>`, as it is written without a source element. */
function bareNvram(document: ReturnType<typeof parseXml>): string | null {
  const path = (textAt(document, '/domain/os/nvram') ?? '').trim();
  return path === '' ? null : path;
}

function unfitBecause(
  device: string,
  isReadOnly: boolean,
  format: DiskFormat | null,
  hasSource: boolean,
): string | null {
  if (device !== 'disk' && device !== 'lun') return `it is a ${device}`;
  if (!hasSource) return 'nothing is in it';
  if (isReadOnly) return 'it is read-only';
  return format === null ? 'its format is neither qcow2 nor raw' : null;
}

/** Chooses the disks that a backup takes. Pure. */
export function selectDisks(
  domain: Domain,
  choice: { readonly includeDisks: readonly string[]; readonly excludeDisks: readonly string[] },
): { taken: DomainDisk[]; leftOut: { key: string; reason: string }[] } {
  const taken: DomainDisk[] = [];
  const leftOut: { key: string; reason: string }[] = [];
  for (const disk of domain.disks) {
    const isIncluded = choice.includeDisks.length === 0 || choice.includeDisks.includes(disk.target);
    const reason =
      disk.unfit ??
      (choice.excludeDisks.includes(disk.target)
        ? 'it is excluded'
        : isIncluded
          ? null
          : 'it is not among the included ones');
    if (reason === null) taken.push(disk);
    else leftOut.push({ key: disk.target, reason });
  }
  return { taken, leftOut };
}
