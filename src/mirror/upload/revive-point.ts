import { hasCode } from '../../base/sendense-error.ts';
import { basesOfOthers } from '../collect/delete-points.ts';
import { layout } from '../layout.ts';
import { openPointChain, readRetired } from '../points/read-point.ts';
import { extendPoint } from '../retention/keep-locked.ts';
import type { SyncDeps } from './sync-deps.ts';

/**
 * Lists a point again that was deleted while others stood on it: all it needs is still there. Its rows must not be
 * written anew, because those that stand on it would be unreadable in between.
 * @returns false when nothing of it is left, or nothing that can be used
 */
export async function revivePoint(deps: SyncDeps, point: string): Promise<boolean> {
  const { mirror, index, retention, damaged } = deps;
  if (damaged.has(point)) return false;
  const body = await readRetired(mirror, point);
  if (body === null) return false;
  // what no listed point stands on may be half collected already
  if (!(await basesOfOthers(mirror, new Set())).has(point)) return false;
  try {
    await openPointChain(mirror, point, { isRetired: true });
    if (retention) await extendPoint(mirror, index, point, retention);
  } catch (error) {
    if (hasCode(error, 'MIRROR_OBJECT_DAMAGED', 'MIRROR_OBJECT_MISSING')) return false;
    throw error;
  }
  await mirror.store.put(layout.manifest(point), body, { ifAbsent: true, retention });
  return true;
}
