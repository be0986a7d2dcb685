import { hasCode } from '../../base/sendense-error.ts';
import { condemnedDocument } from '../documents.ts';
import { layout } from '../layout.ts';
import { readJson } from '../store/json-objects.ts';
import type { ObjectStore } from '../store/object-store.ts';

/** Keys that the collector may delete at any time: nobody may begin to rely on them. */
export async function readCondemned(store: Pick<ObjectStore, 'list' | 'get'>): Promise<Set<string>> {
  const keys = new Set<string>();
  for await (const { key } of store.list(layout.condemned)) {
    try {
      for (const condemned of (await readJson(store, key, condemnedDocument)).keys) keys.add(condemned);
    } catch (error) {
      // its run ended between the two requests
      if (!hasCode(error, 'MIRROR_OBJECT_MISSING')) throw error;
    }
  }
  return keys;
}
