import type { MirrorRecord } from '../../catalog/mirrors/mirrors.ts';
import type { Policy } from '../../policy/definition/policy.ts';
import { hasRules } from '../mirror/mirror-rules.ts';

/**
 * Mirrors with locks or rules of their own that are to be looked after and that no mirror run ever comes to: their locks
 * run out and nothing is deleted. Pure.
 */
export function unkeptMirrors(mirrors: readonly MirrorRecord[], policies: readonly Policy[]): string[] {
  const kept = new Set(
    policies
      .filter(({ mirror, runner }) => mirror !== null && runner !== 'none')
      .flatMap((one) => one.mirrors),
  );
  return mirrors
    .filter(({ name, epoch, settings }) => {
      const isToBeKept = settings.hasUpkeep && (settings.lock !== null || hasRules(settings));
      return epoch !== null && isToBeKept && !kept.has(name);
    })
    .map(({ name }) => name);
}
