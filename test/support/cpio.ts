/** An initramfs archive ("newc", Documentation/driver-api/early-userspace/buffer-format) of executable files. */
export function cpioOf(files: Readonly<Record<string, string>>): Buffer {
  const entries = [...Object.entries(files), ['TRAILER!!!', ''] as const];
  const parts = entries.flatMap(([name, text], index) => {
    const content = Buffer.from(text);
    const path = Buffer.from(`${name}\0`);
    const mode = 0o100755;
    const numbers = [index + 1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, path.length, 0];
    const header = Buffer.from(
      `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`,
    );
    return [padded(Buffer.concat([header, path])), padded(content)];
  });
  return Buffer.concat(parts);
}

const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
