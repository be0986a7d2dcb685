import { readFile } from 'node:fs/promises';

/** A line of `/proc/self/mountinfo`, proc(5). */
export interface MountTableEntry {
  readonly mountPoint: string;
  /** The device or name that was mounted. */
  readonly source: string;
  /** `major:minor` of the files in it. */
  readonly deviceNumber: string;
}

/** In the order of mounting, so that what lies on top comes later. */
export async function readMountTable(): Promise<MountTableEntry[]> {
  return parseMountTable(await readFile('/proc/self/mountinfo', 'utf8'));
}

export function parseMountTable(text: string): MountTableEntry[] {
  return text.split('\n').flatMap((line) => {
    // the number of optional fields varies; a lone hyphen ends them
    const [before, after] = line.split(' - ');
    const [, , deviceNumber, , mountPoint] = before?.split(' ') ?? [];
    const source = after?.split(' ')[1];
    if (mountPoint === undefined || source === undefined || deviceNumber === undefined) return [];
    return [{ mountPoint: decode(mountPoint), source: decode(source), deviceNumber }];
  });
}

/** The kernel writes blank, tab, newline and backslash in octal. */
const decode = (text: string) =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
