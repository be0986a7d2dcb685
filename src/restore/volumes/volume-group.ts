import { z } from 'zod';
import { SECTOR_BYTES } from '../../base/units.ts';
import { parseLvmText } from './lvm-text.ts';

/** Where a stripe of a segment begins. */
interface VolumePart {
  /** Id of the physical volume. */
  readonly pv: string;
  readonly offsetBytes: number;
}

/** A run of a logical volume: striped over its parts, or linear on the only one. */
export interface VolumeSegment {
  readonly startBytes: number;
  readonly lengthBytes: number;
  readonly stripeBytes: number;
  readonly parts: readonly VolumePart[];
}

export interface LogicalVolume {
  readonly name: string;
  readonly sizeBytes: number;
  /** In order, without gaps; null when it needs more than reading here and there. */
  readonly segments: readonly VolumeSegment[] | null;
  /** Kinds of its segments, for people. */
  readonly kind: string;
}

export interface VolumeGroup {
  readonly name: string;
  readonly id: string;
  /** Grows with every change: of two copies the newer one counts. */
  readonly seqno: number;
  readonly volumes: readonly LogicalVolume[];
}

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const id = z.string().regex(/^[A-Za-z0-9-]{38}$/);
/** What LVM itself allows. */
const lvmName = /^[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,126}$/;
const segment = z.looseObject({
  start_extent: count,
  extent_count: count.min(1),
  type: z.string(),
  stripe_count: count.optional(),
  stripe_size: count.optional(),
  stripes: z.array(z.union([z.string(), count])).optional(),
});
const group = z.looseObject({
  id,
  seqno: count,
  extent_size: count.min(1),
  physical_volumes: z.record(z.string(), z.looseObject({ id, pe_start: count })),
  logical_volumes: z
    .record(
      z.string(),
      z.looseObject({ status: z.array(z.string()), segment_count: count.min(1).max(100_000) }),
    )
    .default({}),
});
type Group = z.infer<typeof group>;

/**
 * Reads the metadata of a volume group, as `pvck --dump metadata` prints it.
 * @throws Error with a sentence when it is not what LVM writes
 */
export function readVolumeGroup(text: string): VolumeGroup {
  const sections = Object.entries(parseLvmText(text)).filter(([, value]) => typeof value === 'object');
  const [first] = sections.filter(([, value]) => !Array.isArray(value));
  if (!first || !lvmName.test(first[0])) throw new Error('it names no volume group');
  const parsed = group.safeParse(first[1]);
  if (!parsed.success)
    throw new Error(`its ${parsed.error.issues[0]?.path.join('.') ?? 'text'} makes no sense`);
  const { data } = parsed;
  const volumes = Object.entries(data.logical_volumes)
    .filter(([name, { status }]) => lvmName.test(name) && status.includes('VISIBLE'))
    .map(([name, volume]) => readVolume(data, name, volume));
  return { name: first[0], id: data.id, seqno: data.seqno, volumes };
}

function readVolume(data: Group, name: string, volume: { segment_count: number }): LogicalVolume {
  const extentBytes = data.extent_size * SECTOR_BYTES;
  const fields: Readonly<Record<string, unknown>> = volume;
  const kinds = new Set<string>();
  const segments: VolumeSegment[] = [];
  let extents = 0;
  let isPlain = true;
  for (let number = 1; number <= volume.segment_count; number += 1) {
    const parsed = segment.safeParse(fields[`segment${number}`]);
    if (!parsed.success || parsed.data.start_extent !== extents)
      throw new Error(`segment ${number} of ${name} makes no sense`);
    const { type, extent_count, stripe_size = 0 } = parsed.data;
    const parts = type === 'striped' ? partsOf(data, parsed.data.stripes ?? [], extentBytes) : null;
    const isUsable =
      parts !== null && extent_count % parts.length === 0 && (parts.length === 1 || stripe_size > 0);
    kinds.add(type === 'striped' && parts?.length === 1 ? 'linear' : type);
    if (isUsable)
      segments.push({
        startBytes: extents * extentBytes,
        lengthBytes: extent_count * extentBytes,
        stripeBytes: parts.length === 1 ? extent_count * extentBytes : stripe_size * SECTOR_BYTES,
        parts,
      });
    else isPlain = false;
    extents += extent_count;
  }
  const sizeBytes = extents * extentBytes;
  if (!Number.isSafeInteger(sizeBytes)) throw new Error(`${name} is too large`);
  return { name, sizeBytes, segments: isPlain ? segments : null, kind: [...kinds].join('+') };
}

/** Pairs of a physical volume's name and an extent. @returns null for anything else */
function partsOf(
  data: Group,
  stripes: readonly (string | number)[],
  extentBytes: number,
): VolumePart[] | null {
  const parts: VolumePart[] = [];
  for (let index = 0; index < stripes.length; index += 2) {
    const [name, extent] = [stripes[index], stripes[index + 1]];
    const pv =
      typeof name === 'string' && Object.hasOwn(data.physical_volumes, name)
        ? data.physical_volumes[name]
        : null;
    if (!pv || typeof extent !== 'number') return null;
    parts.push({ pv: pv.id, offsetBytes: pv.pe_start * SECTOR_BYTES + extent * extentBytes });
  }
  return parts.length === 0 ? null : parts;
}
