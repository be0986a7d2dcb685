import { crc32, deflateSync } from 'node:zlib';

/** What a machine shows, three bytes per pixel. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Buffer;
}

/** A blinking cursor or the minutes of a clock are no change, and alone no picture either. */
const NEGLIGIBLE = 0.002;

/** Reads what QEMU's `screendump` writes: a binary PPM of 8 bits. Null when it is none, or is not whole. */
export function readPpm(bytes: Buffer): Picture | null {
  const match = /^P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s/.exec(bytes.toString('latin1', 0, 64));
  if (!match) return null;
  const [width, height] = [Number(match[1]), Number(match[2])];
  const pixels = bytes.subarray(match[0].length);
  return width > 0 && height > 0 && pixels.length === width * height * 3 ? { width, height, pixels } : null;
}

/** True when nothing but one colour is to be seen, save for a cursor. */
export function isBlank({ pixels }: Picture): boolean {
  const counts = new Map<number, number>();
  for (let at = 0; at < pixels.length; at += 3) {
    const colour = pixels.readUIntBE(at, 3);
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const total = pixels.length / 3;
  return total - Math.max(0, ...counts.values()) <= total * NEGLIGIBLE;
}

/** Share of pixels that differ, from 0 to 1; pictures of other sizes differ wholly. */
export function difference(a: Picture, b: Picture): number {
  if (a.width !== b.width || a.height !== b.height) return 1;
  let changed = 0;
  for (let at = 0; at < a.pixels.length; at += 3)
    if (a.pixels.readUIntBE(at, 3) !== b.pixels.readUIntBE(at, 3)) changed += 1;
  return changed / (a.width * a.height);
}

export const isSamePicture = (a: Picture, b: Picture): boolean => difference(a, b) <= NEGLIGIBLE;

/** As PNG (RFC 2083): small enough to keep, and every browser shows it. Older QEMUs write none. */
export function toPng({ width, height, pixels }: Picture): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // 8 bits, RGB, and the only compression, filter and interlacing there is to say
  header.set([8, 2, 0, 0, 0], 8);
  const rows = Buffer.alloc(height * (1 + width * 3));
  for (let row = 0; row < height; row += 1)
    pixels.copy(rows, row * (1 + width * 3) + 1, row * width * 3, (row + 1) * width * 3);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', deflateSync(rows)), chunk('IEND')]);
}

function chunk(type: string, content: Buffer = Buffer.alloc(0)): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), content]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}
