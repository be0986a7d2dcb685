import type { RewriteStep } from '../../repository/merge/carry-out-merge.ts';

/** What was done to `step.top`, for people. */
export const rewriteSentences = {
  commit: 'the layers below were merged into',
  stream: 'the deleted layers below were merged into',
  full: 'a full of its own was written for',
  compress: 'the clusters were compressed of',
} as const;

/**
 * Bytes that a rewriting gave back; a new full beside the old layers gives none. Pure.
 * @param sizes layer → length of its file before
 * @param fileBytes length of the rewritten file
 */
export function freedBy(step: RewriteStep, sizes: ReadonlyMap<string, number>, fileBytes: number): number {
  if (step.operation === 'full') return 0;
  const gone =
    step.operation === 'commit'
      ? [step.top, step.into, ...step.between]
      : step.operation === 'stream'
        ? [step.top, ...step.removed]
        : [step.top];
  const before = gone.reduce((sum, layer) => sum + (sizes.get(layer) ?? 0), 0);
  return Math.max(0, before - fileBytes);
}
