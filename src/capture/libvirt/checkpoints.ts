import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type LibvirtConnection, withXmlFile } from './connection.ts';
import { complaintOf, type Virsh } from './host/virsh.ts';
import { elementsAt, parseXml, writeXml } from './xml/parse-xml.ts';

/** What the next incremental must know of this instant: of which domain, since when, which disk. */
export interface ChangePoint {
  readonly domain: string;
  readonly checkpoint: string;
  readonly target: string;
}

export const changeIdOf = ({ domain, checkpoint, target }: ChangePoint): string =>
  `libvirt:${domain}/${checkpoint}/${target}`;

/** Null when it is none of libvirt. Pure. */
export function parseChangeId(changeId: string): ChangePoint | null {
  const match = /^libvirt:([0-9a-f-]{36})\/([A-Za-z0-9._-]+)\/([A-Za-z0-9._-]+)$/.exec(changeId);
  const [, domain, checkpoint, target] = match ?? [];
  return domain && checkpoint && target ? { domain, checkpoint, target } : null;
}

/** Whatever begins so was made for this machine by us, and by nobody else. */
export const ownPrefix = (machineUuid: string): string => `sendense-${machineUuid.slice(0, 8)}-`;

/** Never used twice, since a bitmap may outlive its checkpoint. */
export const newCheckpointName = (machineUuid: string, now: Date): string =>
  `${ownPrefix(machineUuid)}${now.toISOString().replace(/\D/g, '').slice(0, 14)}-${randomBytes(3).toString('hex')}`;

const LIST_TRIES = 50;
const LIST_AGAIN_MS = 100;

/** Names of all checkpoints of a domain, parents before children. */
export async function listCheckpoints(virsh: Virsh, domain: string, signal?: AbortSignal): Promise<string[]> {
  const command = ['checkpoint-list', domain, '--name', '--topological'];
  let text: string | null = null;
  for (let left = LIST_TRIES; text === null; left -= 1) {
    try {
      text = await virsh(command, signal === undefined ? {} : { signal });
    } catch (error) {
      // libvirt 9.0 stumbles as long as somebody is making or deleting one
      const stumbled = /querying checkpoints|must not be NULL/.test(complaintOf(error) ?? '');
      if (!stumbled || left <= 1) throw error;
      await sleep(LIST_AGAIN_MS);
    }
  }
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/**
 * Tells libvirt of a checkpoint that it forgot when the domain was defined anew; the bitmaps are still in the images.
 * Those that were its parents may be gone, and a bitmap does not need them.
 * @returns false when libvirt does not take it
 */
export async function redefineCheckpoint(
  connection: LibvirtConnection,
  domain: string,
  savedXml: string,
  isActive: boolean,
): Promise<boolean> {
  const document = parseXml(savedXml);
  for (const parent of elementsAt(document, '/domaincheckpoint/parent'))
    parent.parentNode?.removeChild(parent);
  const validate = isActive ? ['--redefine-validate'] : [];
  try {
    await withXmlFile(connection, writeXml(document), (file) =>
      connection.virsh(['checkpoint-create', domain, file, '--redefine', ...validate]),
    );
    return true;
  } catch (error) {
    if (complaintOf(error) === null) throw error;
    return false;
  }
}

/** Only what identifies it: the copy of the domain inside is the configuration's business. */
export const savedCheckpoint = (virsh: Virsh, domain: string, name: string): Promise<string> =>
  virsh(['checkpoint-dumpxml', domain, name, '--no-domain']);

/**
 * Deletes our checkpoints that no layer needs; the bits of a deleted one go to its parent. Others' are not touched.
 * A domain that is off keeps them until it runs again.
 */
export async function dropUnneeded(
  virsh: Virsh,
  domain: string,
  machineUuid: string,
  needed: ReadonlySet<string>,
): Promise<void> {
  const prefix = ownPrefix(machineUuid);
  const names = (await listCheckpoints(virsh, domain)).filter(
    (name) => name.startsWith(prefix) && !needed.has(name),
  );
  for (const name of names) await deleteCheckpoint(virsh, domain, name);
}

export async function deleteCheckpoint(virsh: Virsh, domain: string, name: string): Promise<void> {
  try {
    await virsh(['checkpoint-delete', domain, name]);
  } catch (error) {
    const complaint = complaintOf(error);
    if (complaint === null) throw error;
    if (/inactive domain/.test(complaint) || /not found: .*checkpoint|no domain checkpoint/i.test(complaint))
      return;
    // QEMU was killed, and its bitmap with it: only libvirt's memory of it is left
    if (!/bitmap/.test(complaint)) throw error;
    await virsh(['checkpoint-delete', domain, name, '--metadata']);
  }
}
