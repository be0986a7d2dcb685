import { linkSync, mkdirSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDownload } from '../../src/restore/browse/download.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { allOf } from '../support/all-of.ts';
import { Bench, tool } from './restore-fixtures.ts';

function makeTree(bench: Bench, tree: string, hugeFiles: number): void {
  const at = (...names: string[]) => join(tree, ...names);
  for (const name of ['etc', 'var/www', 'evil', 'odd', 'special', 'huge', 'deep/a/b'])
    mkdirSync(at(name), { recursive: true });
  writeFileSync(at('etc/passwd'), 'the passwd of the guest\n');
  writeFileSync(at('var/www/index.php'), '<?php ?>', { mode: 0o640 });
  utimesSync(at('var/www/index.php'), 1_700_000_000, 1_700_000_000);
  const links: Record<string, string> = {
    'evil/absolute': '/etc/passwd',
    'evil/absolute-folder': '/etc',
    'evil/up': '../../../../../../etc/passwd',
    'evil/loop-a': 'loop-b',
    'evil/loop-b': 'loop-a',
    'evil/proc': '/proc/self/root',
    'evil/proc-cwd': '/proc/self/cwd',
    'evil/root': '/',
    'evil/shadow': '/etc/shadow',
    'evil/dot': '.',
    'evil/host': `${bench.folder}/secret`,
    'evil/climb': `${'../'.repeat(100)}etc/passwd`,
    'deep/a/b/back': '../../../etc',
  };
  for (const [name, target] of Object.entries(links)) symlinkSync(target, at(name));
  writeFileSync(bench.path('secret'), 'HOST');
  for (const name of ['x\xff\xfe', 'line\nbreak', ' blank ', 'a\\b', 'quote\'"', '\x01']) {
    writeFileSync(
      Buffer.concat([Buffer.from(`${at('odd')}/`), Buffer.from(name, 'latin1')]),
      `content of ${Buffer.from(name, 'latin1').toString('hex')}`,
    );
  }
  tool('mkfifo', at('special/fifo'));
  tool('mknod', at('special/block'), 'b', '8', '0');
  tool('mknod', at('special/char'), 'c', '1', '3');
  symlinkSync('../etc/passwd', at('special/link'));
  writeFileSync(at('special/hard'), 'two names');
  linkSync(at('special/hard'), at('special/hard2'));
  writeFileSync(at('special/sparse'), 'start');
  truncateSync(at('special/sparse'), 200_000_000);
  writeFileSync(at('special/empty'), '');
  writeFileSync(
    at('special/random'),
    Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919 + (i >> 8)) & 255)),
  );
  tool(
    'python3',
    '-c',
    'import os, sys; os.setxattr(sys.argv[1], "user.note", b"kept")',
    at('special/random'),
  );
  for (let i = 0; i < hugeFiles; i += 1) writeFileSync(at('huge', `f${i}`), '');
}

/** A guest with every kind of file and every kind of mischief, and the same files on this machine to compare with. */
export class BrowsedGuest {
  readonly bench = new Bench();
  readonly tree = this.bench.path('tree');
  readonly #first: { diskIndex: number; chain: string[] };

  /** @param hugeFiles how many files lie in `/huge` */
  constructor(hugeFiles: number) {
    makeTree(this.bench, this.tree, hugeFiles);
    const image = this.bench.filesystem(
      'a.img',
      'ext4',
      (folder) => {
        tool('cp', '-a', `${this.tree}/.`, folder);
        tool('rm', '-r', join(folder, 'lost+found'));
      },
      128,
    );
    this.#first = { diskIndex: 0, chain: [this.bench.full(image, 'a.qcow2')] };
  }

  async openOne(): Promise<OpenMount> {
    return await this.bench.open({ mountId: 'one', disks: [this.#first], exposeAt: null });
  }

  /** With a second disk that has some of the same names. */
  async openTwo(): Promise<OpenMount> {
    const other = this.bench.filesystem('b.img', 'ext4', (folder) => {
      mkdirSync(join(folder, 'etc'));
      writeFileSync(join(folder, 'etc/passwd'), 'the other');
      writeFileSync(join(folder, 'only-here'), 'found');
    });
    const second = { diskIndex: 1, chain: [this.bench.full(other, 'b.qcow2')] };
    return await this.bench.open({ mountId: 'two', disks: [this.#first, second], exposeAt: null });
  }
}

export async function readAll(mount: OpenMount, path: string | Buffer): Promise<string> {
  await using download = await openDownload(mount, path);
  if (download.kind !== 'file') return download.kind;
  return (await allOf(download.pieces(0, download.size - 1))).toString();
}
