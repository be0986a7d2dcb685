import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Path → content of every file of a repository but the machine's description and the lock, which may be renewed. */
export function contentOf(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true })
    .map(String)
    .filter(
      (name) =>
        statSync(join(folder, name)).isFile() && !name.endsWith('vm.json') && !name.startsWith('.lock.'),
    );
  return Object.fromEntries(
    files.toSorted().map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  );
}
