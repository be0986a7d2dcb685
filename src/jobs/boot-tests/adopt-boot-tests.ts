import type { Catalog } from '../../catalog/catalog.ts';
import { readBootTests, testedBackups } from '../../repository/boot-tests/boot-tests.ts';
import type { BootTestDocument } from '../../repository/boot-tests/document.ts';

export function recordBootTest(catalog: Catalog, document: BootTestDocument): void {
  catalog.bootTests.save({
    backupId: document.backup_id,
    testedAt: document.tested_at,
    outcome: document.outcome,
    reason: document.reason,
    met: document.met.map(({ condition }) => condition),
    tookMs: document.took_ms,
  });
}

/** Takes the newest boot test of each of these restore points from the repository; what is not there is forgotten. */
export async function adoptBootTests(
  catalog: Catalog,
  place: { readonly root: string; readonly vmUuid: string },
  backupIds: readonly string[],
): Promise<void> {
  const tested = new Set(await testedBackups(place.root, place.vmUuid));
  const newest = new Map<string, BootTestDocument>();
  for (const id of backupIds) {
    if (!tested.has(id)) continue;
    const [test] = await readBootTests(place.root, place.vmUuid, id);
    if (test) newest.set(id, test.document);
  }
  catalog.transaction(() => {
    for (const id of backupIds) {
      const document = newest.get(id);
      if (document) recordBootTest(catalog, document);
      else catalog.bootTests.remove(id);
    }
  });
}
