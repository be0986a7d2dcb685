/** Makes the golden repository of the present format: run it once when a format is released, never again for it. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk, sha256 } from '../support/guest-disk.ts';

const target = join(dirname(fileURLToPath(import.meta.url)), 'format-1');
const work = mkdtempSync(join(tmpdir(), 'sd-golden-'));
const appliance = new TestAppliance();
const disk = (name: string) => join(work, name);
const expected: Record<string, string[]> = {};
function backUp(type: string): void {
  const { backup_id } = appliance.json<{ backup_id: string }>('backup', 'start', '--vm', 'golden', '--type', type, '--wait');
  expected[backup_id] = ['a', 'b'].map((name) => sha256(readFileSync(disk(name))));
}
try {
  await appliance.start();
  const slice = makePlainDisk(disk('a'), 8);
  insideDisk(disk('a'), slice, (root) => writeFileSync(join(root, 'hello.txt'), 'golden\n'));
  writeFileSync(disk('b'), bytesOf('golden b', 100_352));
  truncateSync(disk('b'), 3 * 1024 * 1024 + 512);
  appliance.json('vm', 'add', 'golden', '--disk', disk('a'), '--disk', disk('b'));
  backUp('full');
  insideDisk(disk('a'), slice, (root) => writeFileSync(join(root, 'second.txt'), 'second\n'));
  backUp('incremental');
  const changed = readFileSync(disk('b'));
  changed.fill(0, 0, 65_536);
  bytesOf('golden tail', 512).copy(changed, changed.length - 512);
  writeFileSync(disk('b'), changed);
  backUp('incremental');
  backUp('differential');
  await appliance.stop();
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target);
  cpSync(join(appliance.home, 'backups'), join(target, 'backups'), { recursive: true });
  writeFileSync(join(target, 'expected.json'), `${JSON.stringify(expected, null, 2)}\n`);
} finally {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
}
