import { expect, test } from 'vitest';
import { judgeSpace } from './check-repositories.ts';
import { checkTools, type ToolState } from './check-tools.ts';

const good: ToolState = {
  versions: { qemu: [7, 2], nbdServer: [3, 24] },
  needsNbdServer: true,
  areStarted: true,
  nbdServerPid: 11,
  storageDaemonPid: 12,
  storageDaemonLog: '/run/qsd.log',
};
const troubles = (state: Partial<ToolState>) =>
  checkTools({ ...good, ...state })
    .filter((finding) => finding.result !== 'ok')
    .map((finding) => [finding.check, finding.result]);

test.each<[string, Partial<ToolState>, string[][]]>([
  ['nothing', {}, []],
  ['qemu', { versions: { ...good.versions, qemu: null } }, [['qemu', 'failed']]],
  ['nbd-server', { versions: { ...good.versions, nbdServer: null } }, [['nbd-server', 'failed']]],
  [
    'nbd-server where it is not needed',
    { versions: { ...good.versions, nbdServer: null }, nbdServerPid: null, needsNbdServer: false },
    [],
  ],
  ['the storage daemon', { storageDaemonPid: null }, [['storage daemon runs', 'failed']]],
  [
    'both, but they are just starting',
    { storageDaemonPid: null, nbdServerPid: null, areStarted: false },
    [
      ['storage daemon runs', 'warn'],
      ['nbd-server runs', 'warn'],
    ],
  ],
])('missing: %s', (_what, state, wanted) => {
  expect(troubles(state)).toEqual(wanted);
});

test.each([
  [1000, 100, 'ok'],
  [999, 100, 'warn'],
  [99, 100, 'failed'],
  [0, 0, 'ok'],
])('%d bytes free with %d in reserve is %s', (available, reserve, result) => {
  expect(judgeSpace('repository local', available, 10_000, reserve).result).toBe(result);
});
