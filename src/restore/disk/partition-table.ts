import { SECTOR_BYTES } from '../../base/units.ts';
import type { DiskSlice } from '../mount/mounted-filesystem.ts';

/** MBR types of the container of logical partitions; it holds no file system itself. */
const EXTENDED_TYPES = new Set(['5', 'f', '85']);

interface SfdiskTable {
  readonly partitiontable: {
    readonly device: string;
    readonly sectorsize?: number;
    readonly partitions?: readonly {
      readonly node: string;
      readonly start: number;
      readonly size: number;
      readonly type: string;
    }[];
  };
}

/**
 * Reads the answer of `sfdisk -J`. Slices that do not lie inside the disk are cut or left out, and a slice that is told
 * again: a chain of extended boot records may lead back to itself.
 */
export function parsePartitionTable(json: string, diskBytes: number): DiskSlice[] {
  const { device, sectorsize, partitions } = (JSON.parse(json) as SfdiskTable).partitiontable;
  const sectorBytes = sectorsize ?? SECTOR_BYTES;
  const slices: DiskSlice[] = [];
  for (const partition of partitions ?? []) {
    if (EXTENDED_TYPES.has(partition.type.toLowerCase())) continue;
    // sfdisk names a partition after its disk: "disk0" and "p1", or "disk" and "1"
    const partitionNumber = Number(/(\d+)$/.exec(partition.node.slice(device.length))?.[1]);
    const offsetBytes = partition.start * sectorBytes;
    const sizeBytes = Math.min(partition.size * sectorBytes, diskBytes - offsetBytes);
    const isKnown = slices.some(
      (slice) => slice.offsetBytes === offsetBytes && slice.sizeBytes === sizeBytes,
    );
    if (Number.isInteger(partitionNumber) && sizeBytes > 0 && !isKnown)
      slices.push({ partitionNumber, offsetBytes, sizeBytes });
  }
  return slices;
}
