import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { restoreDisk as restoreWith } from '../../src/restore/whole-disk/restore-disk.ts';
import type { RestoreDiskRequest } from '../../src/restore/whole-disk/restore-request.ts';
import { Bench, MIB, sha256, tool } from './restore-fixtures.ts';

/** These tests make files only: no storage daemon, no mover. */
const restoreDisk = (request: RestoreDiskRequest) =>
  restoreWith(
    {
      logger: pino({ level: 'fatal' }),
      stateFolder: '/nonexistent',
      runFolder: '/nonexistent',
      moverFile: '/nonexistent',
      segmentBytes: 32 * MIB,
    },
    request,
  );

/** Two restore points of one disk, and the raw bytes that the newer must give. */
function makeChain(bench: Bench) {
  const image = bench.path('disk.img');
  tool('truncate', '-s', '96M', image);
  tool('dd', 'if=/dev/urandom', `of=${image}`, 'bs=1M', 'count=24', 'seek=8', 'conv=notrunc', 'status=none');
  const full = bench.full(image);
  tool(
    'dd',
    'if=/dev/urandom',
    `of=${image}`,
    'bs=4K',
    'count=300',
    'seek=9000',
    'conv=notrunc',
    'status=none',
  );
  return { image, chain: [bench.incremental(image, full, 'inc.qcow2'), full] };
}

const pointOf = (chain: string[]) => ({
  backupId: 'backup-a',
  diskIndex: 0,
  key: chain.join(),
  chain,
  soundRows: async () => [],
});

const asked = (
  chain: string[],
  output: string,
  changes: Partial<RestoreDiskRequest> = {},
): RestoreDiskRequest => ({
  point: pointOf(chain),
  output,
  format: 'raw',
  overwrite: false,
  differential: false,
  resume: 'auto',
  keepPartial: false,
  forbidden: [],
  onProgress: () => undefined,
  signal: new AbortController().signal,
  ...changes,
});

test('raw and qcow2 are the disk, byte by byte', async () => {
  await using bench = new Bench();
  const { image, chain } = makeChain(bench);
  const before = chain.map(sha256);
  const fractions: number[] = [];
  await restoreDisk(
    asked(chain, bench.path('out.raw'), {
      onProgress: ({ processedBytes }) => void fractions.push(processedBytes / (96 * MIB)),
    }),
  );
  tool('cmp', image, bench.path('out.raw'));
  expect(fractions.at(-1)).toBe(1);
  expect(statSync(bench.path('out.raw')).mode & 0o777).toBe(0o600);
  expect(statSync(bench.path('out.raw')).blocks * 512).toBeLessThan(40 * 1024 * 1024);
  await restoreDisk(asked(chain, bench.path('out.qcow2'), { format: 'qcow2' }));
  expect(JSON.parse(tool('qemu-img', 'info', '--output=json', bench.path('out.qcow2')))).not.toHaveProperty(
    'backing-filename',
  );
  expect(tool('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', image, bench.path('out.qcow2'))).toMatch(
    /identical/,
  );
  expect(chain.map(sha256)).toEqual(before);
  expect(readdirSync(bench.folder).filter((name) => name.includes('partial'))).toEqual([]);
});

test.each(['vmdk', 'vhdx'] as const)(
  '%s is the disk, also with a size that is no round number',
  async (format) => {
    await using bench = new Bench();
    const image = bench.path('odd.img');
    tool('truncate', '-s', String(24 * MIB + 512 * 7), image);
    tool('dd', 'if=/dev/urandom', `of=${image}`, 'bs=1M', 'count=9', 'seek=5', 'conv=notrunc', 'status=none');
    const output = bench.path(`out.${format}`);
    await restoreDisk(asked([bench.full(image)], output, { format }));
    expect(tool('qemu-img', 'compare', '-f', 'raw', '-F', format, image, output)).toMatch(/identical/);
    expect(readFileSync(output, 'latin1')).not.toContain('sendense-partial');
    expect(readdirSync(bench.folder).filter((name) => name.includes('partial'))).toEqual([]);
  },
);

test('where it must not write', async () => {
  await using bench = new Bench();
  const { image, chain } = makeChain(bench);
  mkdirSync(bench.path('repository/sub'), { recursive: true });
  mkdirSync(bench.path('alias'));
  symlinkSync(bench.path('repository'), bench.path('to-repository'));
  symlinkSync(image, bench.path('to-image'));
  symlinkSync('nowhere', bench.path('dangling'));
  linkSync(image, bench.path('hard-link'));
  writeFileSync(bench.path('there'), 'precious');
  tool('mkfifo', bench.path('fifo'));
  tool('mount', '--bind', bench.path('repository'), bench.path('alias'));
  const forbidden = [bench.path('repository'), image];
  for (const output of [
    'relative',
    bench.path('no/where'),
    bench.path('there/x'),
    `${bench.folder}/`,
    bench.path('to-image'),
    bench.path('dangling'),
    bench.path('fifo'),
    bench.path('repository'),
    bench.path('repository/x'),
    bench.path('repository/sub/x'),
    bench.path('to-repository/x'),
    bench.path('alias/x'),
    image,
    bench.path('hard-link'),
    '/dev/null',
    '/a\0b',
  ]) {
    await expect(
      restoreDisk(asked(chain, output, { overwrite: true, forbidden })),
      output,
    ).rejects.toMatchObject({ code: 'OUTPUT_INVALID' });
  }
  await expect(restoreDisk(asked(chain, bench.path('there')))).rejects.toMatchObject({
    code: 'OUTPUT_EXISTS',
  });
  expect(readFileSync(bench.path('there'), 'utf8')).toBe('precious');
  await restoreDisk(asked(chain, bench.path('there'), { overwrite: true, forbidden }));
  tool('cmp', image, bench.path('there'));
});

test('cancelled, damaged, full: the old file stays and no part of a new one', async () => {
  await using bench = new Bench();
  const { chain } = makeChain(bench);
  writeFileSync(bench.path('there'), 'precious');
  const failing = async (request: RestoreDiskRequest, code: string) => {
    await expect(restoreDisk(request)).rejects.toMatchObject({ code });
    expect(readFileSync(bench.path('there'), 'utf8')).toBe('precious');
    expect(readdirSync(bench.folder).filter((name) => name.includes('partial'))).toEqual([]);
  };
  const overwrite = true;
  await failing(asked(chain, bench.path('there'), { overwrite, signal: AbortSignal.abort() }), 'CANCELLED');
  await failing(
    asked([...chain, bench.path('gone')], bench.path('there'), { overwrite }),
    'CHAIN_PARENT_MISSING',
  );
  mkdirSync(bench.path('small'));
  tool('mount', '-t', 'tmpfs', '-o', 'size=8m', 'none', bench.path('small'));
  await expect(restoreDisk(asked(chain, bench.path('small/out')))).rejects.toMatchObject({
    code: 'OUTPUT_SPACE',
    fields: { available_bytes: 8 * MIB },
  });
  expect(readdirSync(bench.path('small'))).toEqual([]);
  const twice = ['x', 'x'].map((name) => restoreDisk(asked(chain, bench.path(name))));
  const outcomes = (await Promise.allSettled(twice)).map(({ status }) => status).sort();
  expect(outcomes).toEqual(['fulfilled', 'rejected']);
});

test.each(['raw', 'qcow2'] as const)(
  '%s: no space left halfway, then it goes on from there',
  async (format) => {
    await using bench = new Bench();
    const { image, chain } = makeChain(bench);
    mkdirSync(bench.path('small'));
    tool('mount', '-t', 'tmpfs', '-o', 'size=40m', 'none', bench.path('small'));
    const output = bench.path('small/out');
    let isFull = false;
    const fill = () => {
      if (isFull) return;
      isFull = true;
      // all that is left, whatever the copy has taken already
      try {
        tool('dd', 'if=/dev/zero', `of=${bench.path('small/other')}`, 'bs=1M', 'status=none');
      } catch {
        // it is full now
      }
    };
    const full = asked(chain, output, {
      format,
      onProgress: () => {
        const journal = readFileSync(`${output}.sendense-partial.json`, 'utf8');
        if ((JSON.parse(journal) as { done_bytes: number }).done_bytes === 32 * MIB) fill();
      },
    });
    await expect(restoreDisk(full)).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect(isFull).toBe(true);
    rmSync(bench.path('small/other'));
    const other = asked([chain[1] ?? ''], output, { format, resume: 'required' });
    await expect(restoreDisk(other)).rejects.toMatchObject({ code: 'RESUME_NOTHING' });
    const outcome = await restoreDisk(asked(chain, output, { format, resume: 'required' }));
    expect(outcome.resumedAtBytes).toBe(32 * MIB);
    expect(tool('qemu-img', 'compare', '-f', 'raw', '-F', format, image, output)).toMatch(/identical/);
    expect(readdirSync(bench.path('small'))).toEqual(['out']);
  },
);

test('a partial of another restore point is never used', async () => {
  await using bench = new Bench();
  const { image, chain } = makeChain(bench);
  const older = chain.slice(1);
  const output = bench.path('out');
  const aborter = new AbortController();
  const broken = asked(older, output, {
    keepPartial: true,
    signal: aborter.signal,
    onProgress: ({ processedBytes }) => {
      if (processedBytes > 32 * MIB) aborter.abort();
    },
  });
  await expect(restoreDisk(broken)).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(readdirSync(bench.folder)).toContain('out.sendense-partial');
  const outcome = await restoreDisk(asked(chain, output));
  expect(outcome.resumedAtBytes).toBeNull();
  tool('cmp', image, output);
});
