import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk, sh } from '../support/guest-disk.ts';
import { expectProblem, requestTo } from '../support/rest-client.ts';

const MIB = 1024 * 1024;
const work = mkdtempSync(join(tmpdir(), 'sd-extract-'));
const at = (...names: string[]) => join(work, ...names);
const appliance = new TestAppliance();
const call = requestTo(appliance);
const socket = () => join(appliance.home, 'run', 'sendensed.sock');
const big = bytesOf('big', 24 * MIB);
let mount = '';

beforeAll(async () => {
  insideDisk(at('disk'), makePlainDisk(at('disk'), 96), (root) => {
    const tree = join(root, 'tree');
    mkdirSync(join(tree, 'sub'), { recursive: true });
    writeFileSync(join(tree, 'sub', 'file'), 'text');
    chownSync(join(tree, 'sub', 'file'), 1234, 2345);
    chmodSync(join(tree, 'sub', 'file'), 0o640);
    utimesSync(join(tree, 'sub', 'file'), 1_600_000_000, 1_600_000_000);
    sh('setfattr', '-n', 'user.note', '-v', 'kept', join(tree, 'sub', 'file'));
    linkSync(join(tree, 'sub', 'file'), join(tree, 'second-name'));
    writeFileSync(join(tree, 'sparse'), 'x');
    truncateSync(join(tree, 'sparse'), 2 * 1024 * MIB);
    writeFileSync(join(tree, 'setuid'), '#!/bin/sh\n');
    chmodSync(join(tree, 'setuid'), 0o6755);
    sh('mknod', join(tree, 'device'), 'b', '8', '0');
    sh('mkfifo', join(tree, 'fifo'));
    symlinkSync('/etc/passwd', join(tree, 'absolute'));
    symlinkSync('../../../../../../tmp', join(tree, 'up'));
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from('odd\xff\n', 'latin1')]), 'odd');
    writeFileSync(join(root, 'big'), big);
  });
  await appliance.start([
    'mounts.max_downloads=3',
    'mounts.max_downloads_per_mount=2',
    'mounts.download_mib_per_s=8',
  ]);
  appliance.json('vm', 'add', 'm', '--disk', at('disk'));
  appliance.json('backup', 'start', '--vm', 'm', '--wait');
  mount = appliance.json<{ mount_id: string }>('backup', 'mount', '--backup-id', 'latest:m').mount_id;
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

const command = (file: string, output: string, ...more: string[]) => [
  ...['backup', 'extract', '--backup-id', 'latest:m', '--file', file, '--output', output],
  ...more,
];
const extract = (file: string, output: string, ...more: string[]) =>
  appliance.ctl(...command(file, output, ...more));
const hidden = () => readdirSync(work).filter((name) => name.startsWith('.sendense'));
const events = () =>
  appliance
    .json<{ events: { kind: string; data: Record<string, unknown> }[] }>('events')
    .events.filter(({ kind }) => kind === 'restore.download.ended')
    .map(({ data }) => data);

describe('extracting', () => {
  it('a folder: everything is as it was but for what gives rights here', () => {
    expect(extract('/tree', at('out')).stderr).toContain('is in');
    const stat = statSync(at('out', 'sub', 'file'));
    expect([stat.uid, stat.gid, stat.mode & 0o7777, stat.mtimeMs]).toEqual([
      1234, 2345, 0o640, 1_600_000_000_000,
    ]);
    expect(stat.ino).toBe(statSync(at('out', 'second-name')).ino);
    expect(
      sh('getfattr', '--only-values', '-n', 'user.note', '--absolute-names', at('out', 'sub', 'file')),
    ).toBe('kept');
    expect(statSync(at('out', 'sparse')).size).toBe(2 * 1024 * MIB);
    expect(statSync(at('out', 'sparse')).blocks).toBeLessThan(64);
    expect(statSync(at('out', 'setuid')).mode & 0o7777).toBe(0o755);
    expect(existsSync(at('out', 'device'))).toBe(false);
    expect(lstatSync(at('out', 'fifo')).isFIFO()).toBe(true);
    expect(readlinkSync(at('out', 'absolute'))).toBe('/etc/passwd');
    expect(readdirSync(at('out'), { encoding: 'latin1' })).toContain('odd\xff\n');
    expect(hidden()).toEqual([]);
  });

  it('with privileges when root asks for them', () => {
    expect(extract('/tree', at('all'), '--keep-privileges').code).toBe(0);
    expect(statSync(at('all', 'setuid')).mode & 0o7777).toBe(0o6755);
    expect(lstatSync(at('all', 'device')).isBlockDevice()).toBe(true);
  });

  it('a file: owner, mode, times, attributes, holes', () => {
    expect(extract('/tree/sub/file', at('file')).code).toBe(0);
    const stat = statSync(at('file'));
    expect([stat.uid, stat.gid, stat.mode & 0o7777, stat.mtimeMs]).toEqual([
      1234, 2345, 0o640, 1_600_000_000_000,
    ]);
    expect(extract('/tree/sparse', at('sparse')).code).toBe(0);
    expect([statSync(at('sparse')).size, statSync(at('sparse')).blocks < 64]).toEqual([2 * 1024 * MIB, true]);
    expect(extract('/tree/setuid', at('setuid')).code).toBe(0);
    expect(statSync(at('setuid')).mode & 0o7777).toBe(0o755);
  });

  it('what is there stays unless it is forced, and links in the target lead nowhere', () => {
    mkdirSync(at('outside'));
    mkdirSync(at('there'));
    symlinkSync(at('outside'), at('there', 'sub'));
    symlinkSync(at('outside', 'made'), at('there', 'setuid'));
    writeFileSync(at('there', 'own'), 'mine');
    const refused = extract('/tree', at('there'));
    expect([refused.code, refused.stderr.includes('OUTPUT_EXISTS')]).toEqual([13, true]);
    expect(readdirSync(at('there')).toSorted()).toEqual(['own', 'setuid', 'sub']);
    expect(extract('/tree', at('there'), '--force').code).toBe(0);
    expect(readdirSync(at('outside'))).toEqual([]);
    expect(readFileSync(at('there', 'own'), 'utf8')).toBe('mine');
    expect(lstatSync(at('there', 'sub')).isDirectory()).toBe(true);
    expect(lstatSync(at('there', 'setuid')).isFile()).toBe(true);
    symlinkSync(at('outside', 'victim'), at('link'));
    expect(extract('/big', at('link')).code).toBe(13);
    expect(extract('/tree/sub/file', at('link'), '--force').code).toBe(0);
    expect([lstatSync(at('link')).isFile(), existsSync(at('outside', 'victim'))]).toEqual([true, false]);
    expect(hidden()).toEqual([]);
  });

  it('to stdout: the bytes of a file, a folder as tar', () => {
    expect(extract('/tree/sub/file', '-').stdout).toBe('text');
    const listed = spawnSync(
      'sh',
      [
        '-c',
        '"$@" | tar -t',
        'sh',
        join('bin', 'sendense-ctl'),
        '--home',
        appliance.home,
        ...command('/tree', '-'),
      ],
      { encoding: 'utf8' },
    );
    expect(listed.stdout).toContain('./sub/file');
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('%s leaves nothing half', async (signal) => {
    const child = spawn(
      join('bin', 'sendense-ctl'),
      ['--home', appliance.home, ...command('/big', at('cut'))],
      { stdio: 'ignore' },
    );
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    await expect.poll(() => hidden().length, { timeout: 20_000 }).toBe(1);
    child.kill(signal);
    expect(await ended).toBe(130);
    expect([existsSync(at('cut')), hidden()]).toEqual([false, []]);
    expect(appliance.json<{ mounts: unknown[] }>('mount', 'list').mounts).toHaveLength(1);
  });

  it('whole, also when the same download is slow', () => {
    expect(extract('/big', at('big')).code).toBe(0);
    expect(readFileSync(at('big')).equals(big)).toBe(true);
  });
});

describe('downloads', () => {
  const url = (path: string) => `http://d/api/v1/restore/${mount}/download?path=${path}`;
  const slow = (output: string) =>
    spawn('curl', ['-s', '-o', output, '--unix-socket', socket(), url('/big')]);

  it('are limited per mount, and 429 says when to come back', async () => {
    const outputs = [at('slow-0'), at('slow-1')];
    const running = outputs.map(slow);
    try {
      // asking before both have begun could take the place of one of them
      await expect.poll(() => outputs.every((output) => existsSync(output)), { timeout: 20_000 }).toBe(true);
      const refused = call('GET', `/restore/${mount}/download?path=/tree/sub/file`);
      expectProblem(refused, 429, 'LIMIT_REACHED');
      expect(refused.headers).toMatch(/retry-after: \d+/i);
      expect(call('GET', `/restore/${mount}/stat?path=/tree/sub/file`).status).toBe(200);
    } finally {
      for (const child of running) child.kill();
    }
    // both are told as given up, and their places are free again
    await expect
      .poll(
        () =>
          events()
            .slice(0, 2)
            .map(({ ended }) => ended),
        { timeout: 10_000 },
      )
      .toEqual(['aborted', 'aborted']);
    expect(call('GET', `/restore/${mount}/download?path=/tree/sub/file`).body).toBe('text');
    expect(events()[0]).toMatchObject({
      ended: 'completed',
      bytes_sent: 4,
      path: '/tree/sub/file',
      status: 200,
    });
  });

  it('keep to the speed', () => {
    const started = performance.now();
    expect(
      sh('curl', '-s', '--unix-socket', socket(), '-o', at('paced'), '-w', '%{http_code}', url('/big')),
    ).toBe('200');
    expect(performance.now() - started).toBeGreaterThan(2500);
    expect(readFileSync(at('paced')).equals(big)).toBe(true);
  });

  it('HEAD says what GET would, and zip is a zip', () => {
    const head = sh('curl', '-s', '-I', '--unix-socket', socket(), url('/big'));
    expect(head).toMatch(/HTTP\/1.1 200/);
    expect(head).toMatch(new RegExp(`content-length: ${big.length}`, 'i'));
    expect(sh('curl', '-s', '-I', '--unix-socket', socket(), url('/tree'))).toMatch(/tree\.tar\.zst/);
    sh('curl', '-s', '--unix-socket', socket(), '-o', at('tree.zip'), `${url('/tree/sub')}&format=zip`);
    expect(sh('unzip', '-p', at('tree.zip'), 'file')).toBe('text');
    const date = /last-modified: (.*)\r/i.exec(head)?.[1] ?? '';
    expect(
      call('GET', `/restore/${mount}/download?path=/big`, undefined, `If-Modified-Since: ${date}`).status,
    ).toBe(304);
    const tag = /etag: (.*)\r/i.exec(head)?.[1] ?? '';
    const range = (value: string) =>
      call(
        'GET',
        `/restore/${mount}/download?path=/big`,
        undefined,
        'Range: bytes=1-3',
        `If-Range: ${value}`,
      );
    expect([range(tag), range(date), range('"x"')].map(({ status }) => status)).toEqual([206, 206, 200]);
  });

  it('a guest that breaks in the middle never looks whole', async () => {
    const own = appliance.json<{ mount_id: string }>('backup', 'mount', '--backup-id', 'latest:m').mount_id;
    for (const path of ['/big', '/']) {
      const child = spawn('curl', [
        '-s',
        '-o',
        '/dev/null',
        '--unix-socket',
        socket(),
        `http://d/api/v1/restore/${own}/download?path=${path}&${path === '/' ? 'format=tar' : ''}`,
      ]);
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      if (path === '/') {
        await new Promise((resolve) => setTimeout(resolve, 300));
        const folder = join(appliance.home, 'run', 'mounts', own);
        const pids = readdirSync('/proc').filter((pid) => {
          if (!/^\d+$/.test(pid)) return false;
          try {
            const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
            return line.startsWith('qemu-storage-daemon') && line.includes(folder);
          } catch {
            return false;
          }
        });
        expect(pids).toHaveLength(1);
        process.kill(Number(pids[0]), 'SIGKILL');
        expect(await ended).not.toBe(0);
      } else child.kill();
      await ended;
    }
    expect(events()[0]).toMatchObject({ ended: 'failed' });
    expect(appliance.ctl('job', 'list').code).toBe(0);
  });

  it('search and stat on the command line', () => {
    expect(appliance.ctl('mount', 'search', mount, 'FILE', '-i', '-o', 'name').stdout).toBe(
      '/tree/sub/file\n',
    );
    expect(appliance.ctl('mount', 'search', mount, 'odd*').stdout).toContain('/tree/odd\ufffd?');
    expect(appliance.ctl('mount', 'stat', mount, '/tree/sub/file', '--preview', '100').stdout).toMatch(
      /1234:2345.*user\.note.*text/s,
    );
    expect(appliance.ctl('mount', 'search', mount, 'a/b').code).toBe(2);
  });
});
