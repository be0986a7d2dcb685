import { SendenseError } from '../../base/sendense-error.ts';
import type { LibvirtReference } from '../../base/source-reference.ts';
import type { MachineRef, Source } from '../source.ts';
import { refuseSecondJob } from './begin-backup.ts';
import { dropUnneeded, parseChangeId } from './checkpoints.ts';
import { connectTo, type LibvirtSettings } from './connection.ts';
import { describeDomain, domainState, sizesOf } from './describe-domain.ts';
import { cleanUpLeftover, libvirtLeftover } from './leftover.ts';
import { snapshotOffline } from './offline-snapshot.ts';
import { snapshotOnline } from './online-snapshot.ts';
import { checkScratch } from './scratch.ts';
import { readDomain, selectDisks } from './xml/domain-xml.ts';

/** Machines of a libvirt, here or behind ssh: changes are tracked by checkpoints, running machines read in pull mode. */
export function libvirtSource(settings: LibvirtSettings): Source {
  const open = async (machine: MachineRef) => {
    const reference = referenceOf(machine);
    return { reference, connection: await connectTo(reference.uri, settings) };
  };
  return {
    kind: 'libvirt',
    discover: async function* (place) {
      const connection = await connectTo(place, settings);
      const list = await connection.virsh(['list', '--all', '--uuid']);
      for (const domain of list.split('\n').map((line) => line.trim())) {
        if (domain === '') continue;
        const reference = { ...ALL_DISKS, uri: place, domain };
        // one that vanishes or whose disks cannot be looked at must not hide the others
        const described = await describeDomain(connection, reference, null).catch(() => null);
        if (described !== null) yield described;
      }
    },
    describe: async (machine) => {
      const { reference, connection } = await open(machine);
      return await describeDomain(connection, reference, machine.name);
    },
    snapshot: async (machine, options) => {
      const { reference, connection } = await open(machine);
      const { domain } = reference;
      const state = await domainState(connection, domain);
      const xml = await connection.virsh(['dumpxml', domain]);
      const found = readDomain(xml);
      const { taken } = selectDisks(found, reference);
      // the disks that were planned for; one that came since then waits for the next time
      const disks = taken.filter(({ target }) => machine.disks.some(({ key }) => key === target));
      const shared = { domain, disks, nvramPath: found.nvramPath, machineUuid: machine.uuid };
      if (!state.isActive)
        return await snapshotOffline(connection, { ...shared, isClean: state.isClean }, options);
      await refuseSecondJob(connection, domain, machine.uuid);
      const sizes = await sizesOf(connection, domain);
      const totalBytes = disks.reduce((sum, { target }) => sum + (sizes.get(target) ?? 0), 0);
      await checkScratch(connection, totalBytes);
      return await snapshotOnline(
        connection,
        {
          ...shared,
          totalBytes,
          targets: found.disks.filter(({ unfit }) => unfit === null).map(({ target }) => target),
          freeze: reference.freeze,
          isPaused: state.isPaused,
          isFrozen: machine.isFrozen,
        },
        options,
      );
    },
    cleanUp: async (machine, leftover) => {
      const { connection } = await open(machine);
      await cleanUpLeftover(connection, libvirtLeftover.parse(leftover));
    },
    release: async (machine, neededChangeIds) => {
      const { reference, connection } = await open(machine);
      const needed = neededChangeIds.flatMap((changeId) => parseChangeId(changeId)?.checkpoint ?? []);
      await dropUnneeded(connection.virsh, reference.domain, machine.uuid, new Set(needed));
    },
  };
}

const ALL_DISKS = { kind: 'libvirt', includeDisks: [], excludeDisks: [], freeze: false } as const;

function referenceOf(machine: MachineRef): LibvirtReference {
  if (machine.source.kind === 'libvirt') return machine.source;
  throw new SendenseError('INTERNAL', { detail: `"${machine.name}" is no machine of a libvirt` });
}
