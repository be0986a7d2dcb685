import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDownload } from '../../src/restore/browse/download.ts';
import { type FileListing, listFiles } from '../../src/restore/browse/list-files.ts';
import { searchFiles } from '../../src/restore/browse/search/search-files.ts';
import { statFile } from '../../src/restore/browse/stat-file.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { allOf } from '../support/all-of.ts';
import { Bench, MIB, openFds, tool } from './restore-fixtures.ts';

const GIB = 1024 * MIB;
const ENTRIES = 200_000;
const HUGE = 60 * GIB;
const bench = new Bench();
const trapped = bench.path('traps.qcow2');

/** One ext4 with every trap; hard links fill the large folder, for inodes take long to make. */
function makeTraps(): void {
  const image = bench.path('traps.img');
  tool('truncate', '-s', '192M', image);
  tool('mkfs.ext4', '-q', '-F', '-O', 'large_dir', image);
  bench.change(image, 'ext4', 0, 192 * MIB, (root) => {
    const at = (...names: string[]) => join(root, ...names);
    for (const name of ['etc', 'links', 'odd', 'kinds', 'hard', 'many']) mkdirSync(at(name));
    writeFileSync(at('etc', 'passwd'), 'of the guest');
    for (const [name, target] of [
      ['absolute', '/etc/passwd'],
      ['relative', '../../../../../../../../../etc/passwd'],
      ['loop', 'loop'],
      ['a', 'b'],
      ['b', 'a'],
      ['proc', '/proc/1/root/etc/passwd'],
      ['shadow', '/etc/shadow'],
    ] as const)
      symlinkSync(target, at('links', name));
    for (const name of ['x'.repeat(255), '\xff\xfe', 'line\nbreak', '\x1b[2J', '-rf'])
      writeFileSync(Buffer.concat([Buffer.from(`${at('odd')}/`), Buffer.from(name, 'latin1')]), 'odd');
    tool('mknod', at('kinds', 'block'), 'b', '8', '0');
    tool('mknod', at('kinds', 'char'), 'c', '1', '5');
    tool('mkfifo', at('kinds', 'fifo'));
    tool(
      'python3',
      '-c',
      'import os, socket, sys; os.chdir(sys.argv[1]); socket.socket(socket.AF_UNIX).bind("socket")',
      at('kinds'),
    );
    writeFileSync(at('kinds', 'setuid'), 'x', { mode: 0o755 });
    tool('chmod', '6755', at('kinds', 'setuid'));
    writeFileSync(at('hard', '0'), 'ten names');
    for (let index = 1; index < 10; index += 1) tool('ln', at('hard', '0'), at('hard', String(index)));
    writeFileSync(at('sparse'), 'start');
    truncateSync(at('sparse'), HUGE);
    const file = openSync(at('sparse'), 'r+');
    writeSync(file, 'the end', HUGE - 7);
    closeSync(file);
    tool(
      'python3',
      '-c',
      'import os, sys\nos.chdir(sys.argv[1])\nfor i in range(int(sys.argv[2])):\n  if i % 50000 == 0: base = f"f{i:06}"; open(base, "w").close()\n  else: os.link(base, f"f{i:06}")',
      at('many'),
      String(ENTRIES),
    );
  });
  bench.full(image, 'traps.qcow2');
}

beforeAll(makeTraps, 120_000);
afterAll(async () => {
  try {
    expect(bench.leftovers()).toEqual([]);
  } finally {
    await bench[Symbol.asyncDispose]();
  }
});

describe.each(['loop', 'userspace'] as const)('a guest full of traps in mode %s', (mode) => {
  let mount: OpenMount;
  beforeAll(async () => {
    mount = await bench.open({
      mountId: `traps-${mode}`,
      disks: [{ diskIndex: 0, chain: [trapped] }],
      mode,
      exposeAt: null,
    });
  });
  afterAll(async () => {
    await mount?.close();
  });

  const read = async (path: string): Promise<string> => {
    await using download = await openDownload(mount, path);
    if (download.kind !== 'file') return download.kind;
    return (await allOf(download.pieces(0, download.size - 1))).toString();
  };

  test('no link leads out, and no special file is opened', async () => {
    const before = openFds();
    for (const path of ['/links/absolute', '/links/relative', '/../../../etc/passwd', '/links/../etc/passwd'])
      expect(await read(path)).toBe('of the guest');
    for (const [path, code] of [
      ['/links/loop', 'PATH_INVALID'],
      ['/links/a', 'PATH_INVALID'],
      ['/links/proc', 'PATH_UNKNOWN'],
      ['/links/shadow', 'PATH_UNKNOWN'],
      ['/kinds/block', 'PATH_WRONG_TYPE'],
      ['/kinds/char', 'PATH_WRONG_TYPE'],
      ['/kinds/fifo', 'PATH_WRONG_TYPE'],
      ['/kinds/socket', 'PATH_WRONG_TYPE'],
    ] as const)
      await expect(read(path)).rejects.toMatchObject({ code });
    expect(await read('/kinds/setuid')).toBe('x');
    expect(await statFile(mount, '/kinds/setuid', { follow: false, previewBytes: 0 })).toMatchObject({
      mode: 0o6755,
    });
    expect(await statFile(mount, '/hard/9', { follow: false, previewBytes: 9 })).toMatchObject({
      links: 10,
      preview: { content: 'ten names' },
    });
    await expect.poll(openFds).toBe(before);
  });

  test('odd names are listed and found byte for byte', async () => {
    const { files } = await listFiles(mount, '/odd', { cursor: null, limit: 100 });
    const names = files.map(({ nameB64 }) => Buffer.from(nameB64, 'base64').toString('latin1'));
    expect(names).toEqual(['\x1b[2J', '-rf', 'line\nbreak', 'x'.repeat(255), '\xff\xfe']);
    const search = {
      pattern: '*',
      ignoreCase: false,
      limit: 9,
      cursor: null,
      timeLimitMs: 9000,
      signal: new AbortController().signal,
    };
    const found = await searchFiles(mount, '/odd', search);
    expect(found.files.map(({ nameB64 }) => nameB64)).toEqual(files.map(({ nameB64 }) => nameB64));
  });

  test('60 GiB of nothing: its end, its size, and a small tar', async () => {
    await using download = await openDownload(mount, '/sparse');
    if (download.kind !== 'file') throw new Error('it is a file');
    expect(download.size).toBe(HUGE);
    expect((await allOf(download.pieces(HUGE - 7, HUGE - 1))).toString()).toBe('the end');
    const details = await statFile(mount, '/sparse', { follow: false, previewBytes: 5 });
    expect(details).toMatchObject({ size: HUGE, preview: { content: 'start', truncated: true } });
    expect(details.allocatedBytes).toBeLessThan(MIB);
    // FUSE programs of user space do not tell holes: reading them all is the only way there
    if (mode === 'userspace') return;
    await using again = await openDownload(mount, '/sparse');
    const tar = await buffer(await again.archive('tar', new AbortController().signal));
    expect(tar.length).toBeLessThan(MIB);
    writeFileSync(bench.path('sparse.tar'), tar);
    tool('tar', '-xf', bench.path('sparse.tar'), '-C', bench.folder);
    expect([statSync(bench.path('sparse')).size, statSync(bench.path('sparse')).blocks < 64]).toEqual([
      HUGE,
      true,
    ]);
  });

  test('200,000 entries: pages, memory, search', async () => {
    const before = openFds();
    if (mode === 'userspace') {
      // fuse2fs looks through the whole folder for each name it is asked about
      const page = await listFiles(mount, '/many', { cursor: null, limit: 10 });
      expect(page.files.at(-1)?.name).toBe('f000009');
      await expect.poll(openFds).toBe(before);
      return;
    }
    const first = await listFiles(mount, '/many', { cursor: null, limit: 1000 });
    const started = performance.now();
    await listFiles(mount, '/many', { cursor: null, limit: 1000 });
    expect(performance.now() - started).toBeLessThan(1000);
    let memory = 0;
    let count = first.files.length;
    let last = first.files.at(-1)?.name ?? '';
    let page: FileListing = first;
    while (page.nextCursor !== null) {
      page = await listFiles(mount, '/many', { cursor: page.nextCursor, limit: 1000 });
      count += page.files.length;
      if (count === ENTRIES / 2) memory = process.memoryUsage().rss;
      expect((page.files[0]?.name ?? '') > last).toBe(true);
      last = page.files.at(-1)?.name ?? '';
    }
    expect([count, last]).toEqual([ENTRIES, 'f199999']);
    expect(process.memoryUsage().rss - memory).toBeLessThan(100 * MIB);
    const found: string[] = [];
    let cursor: string | null = null;
    do {
      const answer: Awaited<ReturnType<typeof searchFiles>> = await searchFiles(mount, '/', {
        ...{
          pattern: 'f1999?9',
          ignoreCase: false,
          limit: 3,
          cursor,
          timeLimitMs: 500,
          signal: new AbortController().signal,
        },
      });
      found.push(...answer.files.map(({ path }) => path));
      cursor = answer.nextCursor;
    } while (cursor !== null);
    expect(found).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((digit) => `/many/f1999${digit}9`));
    await expect.poll(openFds).toBe(before);
  });
});

/** Bytes written into an image, past every file system. */
function poke(image: string, offset: number, bytes: Buffer): void {
  const file = openSync(image, 'r+');
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
}

function smallExt4(name: string): string {
  const tree = bench.path(`${name}-tree`);
  mkdirSync(tree);
  writeFileSync(join(tree, 'file'), 'whole');
  tool('mkfs.ext4', '-q', '-d', tree, bench.path(name), '16M');
  return bench.path(name);
}

/** MBR entries: type, first sector, sectors. */
function mbr(...entries: readonly (readonly [number, number, number])[]): Buffer {
  const sector = Buffer.alloc(512);
  for (const [index, [type, start, size]] of entries.entries()) {
    sector.writeUInt8(type, 446 + index * 16 + 4);
    sector.writeUInt32LE(start, 446 + index * 16 + 8);
    sector.writeUInt32LE(size, 446 + index * 16 + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** What is wrong, and whether the one whole file system in it can still be read. */
const wrecks: Record<string, { make: () => string; isReadable: boolean }> = {
  superblock: {
    make: () => {
      const image = smallExt4('superblock.img');
      poke(image, 1024 + 4, Buffer.alloc(48, 0xff));
      return image;
    },
    isReadable: false,
  },
  'root folder': {
    make: () => {
      const image = smallExt4('root.img');
      const block = Number(tool('debugfs', '-R', 'blocks <2>', image).trim().split(' ')[0]);
      const blockBytes = Number(/Block size:\s+(\d+)/.exec(tool('dumpe2fs', '-h', image))?.[1]);
      poke(image, block * blockBytes, Buffer.alloc(blockBytes, 0xa5));
      return image;
    },
    isReadable: false,
  },
  'truncated disk': {
    make: () => {
      const image = smallExt4('cut.img');
      truncateSync(image, 4 * MIB);
      return image;
    },
    isReadable: false,
  },
  'EBR chain that bites its tail': {
    make: () => {
      const image = bench.path('ebr.img');
      tool('truncate', '-s', '32M', image);
      poke(image, 0, mbr([5, 2048, 60_000]));
      // the second entry leads to the next EBR, counted from the first: this very one
      poke(image, 2048 * 512, mbr([0x83, 2048, 32_768], [5, 0, 40_000]));
      tool(
        'dd',
        `if=${smallExt4('inner.img')}`,
        `of=${image}`,
        'bs=1M',
        'seek=2',
        'conv=notrunc',
        'status=none',
      );
      return image;
    },
    isReadable: true,
  },
  'MBR with overlapping and oversized entries': {
    make: () => {
      const image = bench.path('mbr.img');
      tool('truncate', '-s', '32M', image);
      poke(
        image,
        0,
        mbr([0x83, 2048, 32_768], [0x83, 4096, 32_768], [0x83, 40_000, 0xffffffff], [0x83, 0xfffffff0, 100]),
      );
      tool(
        'dd',
        `if=${smallExt4('inner-mbr.img')}`,
        `of=${image}`,
        'bs=1M',
        'seek=1',
        'conv=notrunc',
        'status=none',
      );
      return image;
    },
    isReadable: true,
  },
  'GPT with a wrong checksum and wild entries': {
    make: () => {
      const image = bench.path('gpt.img');
      tool('truncate', '-s', '32M', image);
      tool(
        'sh',
        '-c',
        `printf 'label: gpt\\nstart=2048,size=32768\\nstart=40000,size=2000\\n' | sfdisk -q ${image}`,
      );
      // the second entry now ends far outside, and no checksum is right any more; the copy at the end is
      poke(image, 1024 + 128 + 40, Buffer.from('ffffffffffffff7f', 'hex'));
      tool(
        'dd',
        `if=${smallExt4('inner-gpt.img')}`,
        `of=${image}`,
        'bs=1M',
        'seek=1',
        'conv=notrunc',
        'status=none',
      );
      return image;
    },
    isReadable: true,
  },
};

test.each(Object.entries(wrecks))(
  '%s: a right answer or a clear error, soon, and nothing is left',
  async (_what, { make, isReadable }) => {
    const image = make();
    const layer = bench.full(image, `${image.split('/').at(-1)}.qcow2`);
    for (const mode of ['loop', 'userspace'] as const) {
      const started = performance.now();
      const attempt = bench.open({
        mountId: `wreck-${mode}`,
        disks: [{ diskIndex: 0, chain: [layer] }],
        mode,
        exposeAt: null,
      });
      const outcome = await attempt.then(
        async (mount) => {
          const key = mount.filesystems.find(({ status }) => status === 'mounted')?.key ?? '';
          const several = mount.filesystems.filter(({ status }) => status === 'mounted').length > 1;
          const path = several ? `/${key}/file` : '/file';
          try {
            await using download = await openDownload(mount, path);
            return download.kind === 'file'
              ? (await allOf(download.pieces(0, download.size - 1))).toString()
              : download.kind;
          } catch (error) {
            return (error as { code: string }).code;
          } finally {
            await mount.close();
          }
        },
        (error: { code: string }) => error.code,
      );
      expect(performance.now() - started).toBeLessThan(10_000);
      if (isReadable) expect([mode, outcome]).toEqual([mode, 'whole']);
      else
        expect([mode, outcome]).toEqual([mode, expect.stringMatching(/^(whole|MOUNT_FAILED|PATH_UNKNOWN)$/)]);
      await expect.poll(() => bench.leftovers()).toEqual([]);
    }
    expect(readFileSync(layer).length).toBeGreaterThan(0);
  },
);
