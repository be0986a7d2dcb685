import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, SendenseError } from '../base/sendense-error.ts';
import { MIRROR_FORMAT, type OwnerDocument, ownerDocument } from './documents.ts';
import { layout } from './layout.ts';
import { parseJson, writeJson } from './store/json-objects.ts';
import type { Capabilities, ObjectStore } from './store/object-store.ts';

/** Where conditions are not kept: longer than two writers can be apart and both believe they were first. */
const SETTLE_MS = 2_000;

interface Claim {
  readonly store: ObjectStore;
  readonly capabilities: Capabilities | null;
  readonly place: string;
  readonly applianceId: string;
}

/**
 * Makes this appliance the one that writes. The epoch fences what an earlier owner still has under way.
 * @param takeOver also when it belongs to another appliance
 * @returns the epoch
 * @throws MIRROR_OWNED
 */
export async function claimMirror(claim: Claim, takeOver: boolean): Promise<number> {
  const { store, capabilities, place, applianceId } = claim;
  const found = await readOwner(store);
  if (found?.document.appliance_id === applianceId) return found.document.epoch;
  if (found && !takeOver) throw ownedBy(place, found.document);
  const document: OwnerDocument = {
    format: MIRROR_FORMAT,
    appliance_id: applianceId,
    host: hostname(),
    epoch: (found?.document.epoch ?? 0) + 1,
    since: new Date().toISOString(),
  };
  try {
    await writeJson(store, layout.owner, document, found ? { ifMatch: found.etag } : { ifAbsent: true });
  } catch (error) {
    if (!hasCode(error, 'MIRROR_CONFLICT')) throw error;
  }
  const isSure = capabilities?.conditional_put === true && (!found || capabilities.conditional_replace);
  if (!isSure) await sleep(SETTLE_MS);
  const now = await readOwner(store);
  if (now?.document.appliance_id !== applianceId) throw ownedBy(place, now?.document ?? document);
  return now.document.epoch;
}

/** @throws MIRROR_FENCED when another appliance has taken over */
export async function confirmOwner(
  { store, place }: Pick<Claim, 'store' | 'place'>,
  writer: { readonly applianceId: string; readonly epoch: number },
): Promise<void> {
  const found = await readOwner(store);
  if (found?.document.appliance_id === writer.applianceId && found.document.epoch === writer.epoch) return;
  throw new SendenseError('MIRROR_FENCED', { place, owner: found?.document.host ?? 'nobody' });
}

const ownedBy = (place: string, { host, since }: OwnerDocument) =>
  new SendenseError('MIRROR_OWNED', { place, owner: host, since });

async function readOwner(
  store: ObjectStore,
): Promise<{ readonly document: OwnerDocument; readonly etag: string } | null> {
  try {
    const { body, etag } = await store.get(layout.owner);
    return { document: parseJson(layout.owner, body, ownerDocument), etag };
  } catch (error) {
    if (hasCode(error, 'MIRROR_OBJECT_MISSING')) return null;
    throw error;
  }
}
