import { readFileSync, writeFileSync } from 'node:fs';

/** An image of an NTFS, to be brought into the states in which Windows leaves one. */
class NtfsImage {
  readonly bytes: Buffer;
  readonly #path: string;
  readonly #clusterBytes: number;

  constructor(path: string) {
    this.#path = path;
    this.bytes = readFileSync(path);
    this.#clusterBytes = this.bytes.readUInt16LE(11) * this.bytes.readUInt8(13);
  }

  /** Offset of an attribute in a record of the file table, or of its mirror. */
  attribute(record: number, type: number, tableAt = 48): number {
    const start = Number(this.bytes.readBigUInt64LE(tableAt)) * this.#clusterBytes + record * 1024;
    let at = start + this.bytes.readUInt16LE(start + 20);
    while (this.bytes.readUInt32LE(at) !== type) at += this.bytes.readUInt32LE(at + 4);
    return at;
  }

  /** Offset of the first byte of an attribute's data that lies outside its record. */
  dataOf(attribute: number): number {
    const run = attribute + this.bytes.readUInt16LE(attribute + 32);
    const header = this.bytes.readUInt8(run);
    return this.bytes.readUIntLE(run + 1 + (header & 15), header >> 4) * this.#clusterBytes;
  }

  save(): void {
    writeFileSync(this.#path, this.bytes);
  }
}

/** As while Windows has it mounted: bit 0 of the flags in the volume information, in the table and its mirror. */
export function scheduleCheck(path: string): void {
  const image = new NtfsImage(path);
  for (const tableAt of [48, 56]) {
    const attribute = image.attribute(3, 0x70, tableAt);
    const flags = attribute + image.bytes.readUInt16LE(attribute + 20) + 10;
    image.bytes.writeUInt16LE(image.bytes.readUInt16LE(flags) | 1, flags);
  }
  image.save();
}

/** As after a crash: the two restart pages of the log name a client that did not finish. */
export function leaveLogOpen(path: string): void {
  const image = new NtfsImage(path);
  const log = image.attribute(2, 0x80);
  const logBytes = Number(image.bytes.readBigUInt64LE(log + 48));
  const page = restartPage(logBytes);
  for (const offset of [0, page.length]) page.copy(image.bytes, image.dataOf(log) + offset);
  image.save();
}

function restartPage(logBytes: number): Buffer {
  const page = Buffer.alloc(4096);
  const [fixups, area] = [0x1e, 0x30];
  const client = area + 0x30;
  page.write('RSTR', 'latin1');
  page.writeUInt16LE(fixups, 4);
  page.writeUInt16LE(9, 6);
  page.writeUInt32LE(4096, 16);
  page.writeUInt32LE(4096, 20);
  page.writeUInt16LE(area, 24);
  page.writeUInt16LE(1, 26);
  page.writeUInt16LE(1, 28);
  page.writeBigUInt64LE(0x100000n, area);
  page.writeUInt16LE(1, area + 8);
  page.writeUInt16LE(0xffff, area + 10);
  page.writeUInt16LE(0, area + 12); // the client that did not finish
  page.writeUInt32LE(67 - logBytes.toString(2).length, area + 16);
  page.writeUInt16LE(0x30 + 160, area + 20);
  page.writeUInt16LE(0x30, area + 22);
  page.writeBigUInt64LE(BigInt(logBytes), area + 24);
  page.writeUInt16LE(0x30, area + 36);
  page.writeUInt16LE(0x40, area + 38);
  page.writeUInt32LE(1, area + 40);
  page.writeBigUInt64LE(0x100000n, client);
  page.writeBigUInt64LE(0x100000n, client + 8);
  page.writeUInt16LE(0xffff, client + 16);
  page.writeUInt16LE(0xffff, client + 18);
  page.writeUInt32LE(8, client + 28);
  page.write('NTFS', client + 32, 'utf16le');
  page.writeUInt16LE(1, fixups);
  for (let sector = 0; sector < 8; sector += 1) {
    const end = (sector + 1) * 512 - 2;
    page.copy(page, fixups + 2 + 2 * sector, end, end + 2);
    page.writeUInt16LE(1, end);
  }
  return page;
}
