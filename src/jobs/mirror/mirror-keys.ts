import { accessOf, ask, findRecord, type MirrorDeps, readSecret, refuseReader } from './mirror-deps.ts';

/** @throws MIRROR_UNKNOWN, MIRROR_… */
export async function listKeys(deps: MirrorDeps, name: string) {
  const record = findRecord(deps, name);
  if (!record.isEncrypted) return [];
  const { keys } = await ask(deps, { task: 'keys', access: await accessOf(deps, record) });
  return keys.map(({ slot, kind, label, created_at }) => ({ slot, kind, label, createdAt: created_at }));
}

/** @returns a recovery key when no passphrase is given: it is told once and kept nowhere */
export async function addKey(
  deps: MirrorDeps,
  name: string,
  { passphraseFile, label }: { readonly passphraseFile: string | null; readonly label: string },
) {
  const record = findRecord(deps, name);
  refuseReader(record);
  const passphrase =
    passphraseFile === null ? null : await readSecret(passphraseFile, 'the file of the passphrase');
  const access = await accessOf(deps, record);
  const added = await ask(deps, { task: 'add-key', access, label, passphrase });
  deps.catalog.events.add({
    kind: 'mirror.key_added',
    severity: 'info',
    subject: name,
    message: `The key ${added.slot} opens the mirror ${name} from now on.`,
    data: { slot: added.slot, label },
  });
  return added;
}

/** @throws MIRROR_LAST_KEY, MIRROR_KEY_UNKNOWN */
export async function removeKey(deps: MirrorDeps, name: string, slot: number) {
  const record = findRecord(deps, name);
  refuseReader(record);
  const removed = await ask(deps, { task: 'remove-key', access: await accessOf(deps, record), slot });
  deps.catalog.events.add({
    kind: 'mirror.key_removed',
    severity: 'warning',
    subject: name,
    message: `The key ${slot} does not open the mirror ${name} any more.`,
    data: { slot },
  });
  return removed;
}
