import type { Sidecar } from '../documents.ts';

/**
 * True while a layer that no restore point names any more takes up the one above it. Its own content is then a mixture
 * of both; what is read through the layer above is right all the same.
 */
export const isBeingFilled = (sidecar: Sidecar): boolean =>
  'absorbing' in sidecar && sidecar.absorbing !== null && sidecar.absorbing !== undefined;
