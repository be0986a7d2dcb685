import { SendenseError } from '../../base/sendense-error.ts';
import type { LibvirtReference } from '../../base/source-reference.ts';
import type { MachineDescription } from '../source.ts';
import type { LibvirtConnection } from './connection.ts';
import { complaintOf } from './host/virsh.ts';
import { readDomain, selectDisks } from './xml/domain-xml.ts';

export interface DomainState {
  readonly isActive: boolean;
  readonly isPaused: boolean;
  /** It is off because it was shut down. */
  readonly isClean: boolean;
}

/** @throws DOMAIN_UNKNOWN, LIBVIRT_FAILED */
export async function domainState({ virsh }: LibvirtConnection, domain: string): Promise<DomainState> {
  let text: string;
  try {
    text = await virsh(['domstate', domain, '--reason']);
  } catch (error) {
    if (/failed to get domain|domain not found|no domain/i.test(complaintOf(error) ?? ''))
      throw new SendenseError('DOMAIN_UNKNOWN', { domain, detail: complaintOf(error) }, error);
    throw error;
  }
  const isOff = /^(shut off|no state)/.test(text.trim());
  return {
    isActive: !isOff,
    isPaused: /^paused/.test(text.trim()),
    isClean: /\((shutdown|saved)\)/.test(text),
  };
}

/** Target → bytes that the guest sees, of the disks that libvirt can look at. */
export async function sizesOf({ virsh }: LibvirtConnection, domain: string): Promise<Map<string, number>> {
  const text = await virsh(['domblkinfo', domain, '--all']);
  const sizes = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [, target, bytes] = /^\s*(\S+)\s+(\d+)\s+\d+\s+\d+\s*$/.exec(line) ?? [];
    if (target !== undefined) sizes.set(target, Number(bytes));
  }
  return sizes;
}

/** @param name as it is registered; null: as libvirt calls it */
export async function describeDomain(
  connection: LibvirtConnection,
  reference: LibvirtReference,
  name: string | null,
): Promise<MachineDescription> {
  const { isActive } = await domainState(connection, reference.domain);
  const domain = readDomain(await connection.virsh(['dumpxml', reference.domain]));
  const { taken, leftOut } = selectDisks(domain, reference);
  const sizes = await sizesOf(connection, reference.domain);
  return {
    name: name ?? domain.name,
    source: { ...reference, domain: domain.uuid },
    isRunning: isActive,
    disks: taken.map(({ target, format }) => {
      const sizeBytes = sizes.get(target);
      if (sizeBytes === undefined || format === null)
        throw new SendenseError('SOURCE_UNREADABLE', {
          path: `${target} of ${domain.name}`,
          detail: 'libvirt does not tell its size',
        });
      return { key: target, format, sizeBytes };
    }),
    leftOut,
  };
}
