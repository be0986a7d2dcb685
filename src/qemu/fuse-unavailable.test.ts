import { expect, it } from 'vitest';
import { whyNoFuse } from './fuse-unavailable.ts';

const good = { hasDevice: true, uid: 999, gainsNothing: false };

it.each([
  [good, null],
  [{ ...good, uid: 0, gainsNothing: true }, null],
  [{ ...good, hasDevice: false }, 'no /dev/fuse'],
  [{ ...good, gainsNothing: true }, 'NoNewPrivileges'],
])('%j: %s', (facts, wanted) => {
  const found = whyNoFuse(facts);
  if (wanted === null) expect(found).toBeNull();
  else expect(found?.why).toContain(wanted);
});
