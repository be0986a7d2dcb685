import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { SourceKind } from '../../base/source-reference.ts';
import type {
  ChangeTrackingLost,
  DiskAtAgent,
  MachineRef,
  Snapshot,
  SnapshotDisk,
  Source,
} from '../../capture/source.ts';
import type { AgentHub } from '../hub/agent-hub.ts';
import { calls } from '../protocol/calls.ts';
import type { WantedSnapshots } from './wanted-snapshots.ts';

interface RemoteSourceDeps {
  readonly hub: AgentHub;
  readonly snapshots: WantedSnapshots;
  /** So long an agent may be away when it is asked for something. */
  readonly patienceMs: number;
}

/** An answer of moments: for a look at the disks nobody waits ten minutes. */
const LOOK_PATIENCE_MS = 5_000;

/** A source of the agent's host. Everything is asked there; what can be read is read by the agent itself. */
export function remoteSource(deps: RemoteSourceDeps, kind: SourceKind, agentId: string): Source {
  const connected = (signal?: AbortSignal) => deps.hub.connected(agentId, LOOK_PATIENCE_MS, signal);
  return {
    kind,
    discover: async function* (place) {
      const { machines } = await (await connected()).call('discover', { kind, place });
      yield* machines;
    },
    describe: async (machine) =>
      await (await connected()).call('describe', { machine: plainMachine(machine) }),
    snapshot: async (machine, { since, signal, warn }) => {
      const link = await connected(signal);
      const snapshotId = `snapshot-${randomBytes(6).toString('hex')}`;
      deps.snapshots.add(snapshotId, agentId);
      try {
        const taken = await link.call(
          'snapshot',
          { snapshotId, machine: plainMachine(machine), since: { ...since } },
          signal,
        );
        for (const warning of taken.warnings) warn(warning);
        const { consistency, configuration, disks } = taken;
        return snapshotOf(deps, agentId, {
          ...{ snapshotId, agentId, consistency, configuration, disks },
        });
      } catch (error) {
        // it may have been made although nobody heard the answer
        await disposeOf(deps, agentId, snapshotId);
        throw error;
      }
    },
    takeUp: (_machine, memory) => snapshotOf(deps, agentId, remembered.parse(memory)),
    cleanUp: async (machine, leftover) => {
      await (await connected()).call('cleanUp', {
        machine: plainMachine(machine),
        leftover: { ...leftover },
      });
    },
    release: async (machine, neededChangeIds) => {
      await (await connected()).call('release', {
        machine: plainMachine(machine),
        neededChangeIds: [...neededChangeIds],
      });
    },
  };
}

const remembered = calls.snapshot.answer
  .omit({ warnings: true })
  .extend({ snapshotId: z.string(), agentId: z.string() });

/** A snapshot that the agent holds under this id, taken just now or by an earlier daemon. */
function snapshotOf(deps: RemoteSourceDeps, agentId: string, memory: z.infer<typeof remembered>): Snapshot {
  const { snapshotId, consistency, configuration, disks } = memory;
  return {
    ...{ consistency, configuration, memory },
    disks: disks.map((disk) => diskOf(deps, agentId, snapshotId, disk)),
    [Symbol.asyncDispose]: () => disposeOf(deps, agentId, snapshotId),
  };
}

function diskOf(
  deps: RemoteSourceDeps,
  agentId: string,
  snapshotId: string,
  disk: { key: string; sizeBytes: number; changeId: string | null },
): SnapshotDisk {
  const open = async (since: string | null): Promise<DiskAtAgent | ChangeTrackingLost> => {
    const link = await deps.hub.connected(agentId, deps.patienceMs);
    const answer = await link.call('open', { snapshotId, key: disk.key, since });
    if ('lost' in answer) return answer;
    return { kind: 'agent', snapshotId, hasChanges: since !== null, ...answer };
  };
  return {
    ...disk,
    open: async () => {
      const opened = await open(null);
      if ('lost' in opened) throw new TypeError('a whole disk cannot have lost its changes');
      return opened;
    },
    changedSince: (changeId) => open(changeId),
  };
}

/** An agent that is away forgets its snapshots by itself when its patience ends. */
async function disposeOf(deps: RemoteSourceDeps, agentId: string, snapshotId: string): Promise<void> {
  if (!deps.snapshots.remove(snapshotId)) return;
  const link = deps.hub.link(agentId);
  await link?.call('dispose', { snapshotId }).catch(() => undefined);
}

/** Without the fields that only the catalogue has. */
export const plainMachine = ({ name, uuid, source, disks, allowBacking, isFrozen }: MachineRef) => ({
  ...{ name, uuid, isFrozen, allowBacking: [...allowBacking] },
  source:
    source.kind === 'image'
      ? source
      : { ...source, includeDisks: [...source.includeDisks], excludeDisks: [...source.excludeDisks] },
  disks: disks.map(({ key, format }) => ({ key, format })),
});
