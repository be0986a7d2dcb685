import { execFileSync, spawn } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type RunningDaemon, startDaemon } from '../../src/base/process/start-daemon.ts';
import { MountdClient } from '../../src/mountd/client.ts';
import { localWork } from '../../src/mountd/privileged/local-work.ts';
import { StorageDaemon } from '../../src/qemu/storage-daemon.ts';

const NOBODY = 65_534;
const STRANGER = 65_533;
const MIB = 1024 * 1024;

let home: string;
let mountd: RunningDaemon;
let client: MountdClient;
const socketFile = () => join(home, 'run', 'mountd.sock');

/** What a dead one left must not look like a living one. */
async function start(...options: string[]): Promise<void> {
  rmSync(socketFile(), { force: true });
  mountd = await startDaemon(process.execPath, ['dist/main/sendense-mountd.js', '--home', home, ...options], {
    logFile: join(home, 'mountd.log'),
    readyWhen: async () => existsSync(socketFile()) && (statSync(socketFile()).mode & 0o777) === 0o600,
  });
  client = new MountdClient(socketFile());
}

beforeEach(() => {
  home = realpathSync(mkdtempSync(join(tmpdir(), 'sd-mountd-')));
  mkdirSync(join(home, 'run', 'mounts', 's'), { recursive: true });
});
afterEach(async () => {
  await mountd?.stop();
  // not by the one under test: also a test that fails leaves nothing
  await localWork({
    baseFolder: join(home, 'mnt'),
    imageFolder: join(home, 'run', 'mounts'),
    uid: 0,
    gid: 0,
    exposeFolders: [],
  }).sweep();
  rmSync(home, { recursive: true, force: true });
});

/** A disk of 16 MiB with an ext4, shown as the product does. */
async function showDisk(): Promise<StorageDaemon> {
  const image = join(home, 'disk.raw');
  execFileSync('truncate', ['-s', '16M', image]);
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  const folder = join(home, 'run', 'mounts', 's');
  const daemon = new StorageDaemon({ logger: pino({ level: 'silent' }), folder });
  await daemon.start();
  await daemon.openImage('disk0', {
    driver: 'raw',
    'read-only': false,
    file: { driver: 'file', filename: image },
  });
  await daemon.addExport('disk0', 'disk0', {
    type: 'fuse',
    mountpoint: join(folder, 'disk0.img'),
    writable: true,
  });
  return daemon;
}

const wholeDisk = { session: 's', file: 'disk0.img', offsetBytes: 0, sizeBytes: 16 * MIB };
const refused = (work: Promise<unknown>) => expect(work).rejects.toMatchObject({ code: 'MOUNTD_REFUSED' });

it('mounts what is in its folder, also for a successor of one that was killed', async () => {
  await start();
  await using _disk = await showDisk();
  const device = await client.attachLoop(wholeDisk);
  const place = { session: 's', key: 'disk0' };
  const { path, refusal } = await client.mount({ ...place, device, fsType: 'ext4', replay: true });
  expect([path, refusal]).toEqual([join(home, 'mnt/s/disk0'), null]);
  expect(readdirSync(path ?? '')).toEqual(['lost+found']);
  process.kill(mountd.pid, 'SIGKILL');
  await mountd.exited;
  await expect(client.clearPlace(place, false)).rejects.toMatchObject({ code: 'MOUNTD_UNREACHABLE' });
  expect(readdirSync(path ?? '')).toEqual(['lost+found']);
  await start();
  await client.clearPlace(place, false);
  await client.detachLoop(device, false);
  await client.detachLoop(device, false);
  expect(existsSync(join(home, 'mnt/s'))).toBe(false);
});

it('refuses everything that is not below its folders', async () => {
  await start('--expose', join(home, 'shown'));
  await using _disk = await showDisk();
  const images = join(home, 'run', 'mounts', 's');
  writeFileSync(join(images, 'plain.img'), Buffer.alloc(MIB));
  symlinkSync(join(home, 'disk.raw'), join(images, 'link.img'));
  symlinkSync('/', join(home, 'run', 'mounts', 'root'));
  const loop = (changes: object) => client.attachLoop({ ...wholeDisk, ...changes });
  await refused(loop({ file: 'plain.img' }));
  await refused(loop({ file: 'link.img' }));
  await refused(loop({ file: '../../../../etc/passwd' }));
  await refused(loop({ session: '..', file: 'mountd.sock' }));
  await refused(loop({ session: 'root', file: 'etc' }));
  await refused(loop({ file: 'absent.img' }));
  await refused(loop({ sizeBytes: -1 }));
  await refused(client.connectNbd({ session: 's', socket: 'disk0.img', exportName: 'disk0' }));
  await refused(client.connectNbd({ session: '.', socket: '..', exportName: 'x' }));

  const foreign = execFileSync('losetup', ['-f', '--show', join(home, 'disk.raw')], {
    encoding: 'utf8',
  }).trim();
  try {
    await refused(client.detachLoop(foreign, true));
    const place = { session: 's', key: 'k' };
    await refused(client.mount({ ...place, device: foreign, fsType: 'ext4', replay: true }));
    await refused(client.mount({ ...place, device: '/dev/vda', fsType: 'ext4', replay: true }));
    await refused(client.mount({ ...place, device: `${foreign} -o exec`, fsType: 'ext4', replay: true }));
  } finally {
    execFileSync('losetup', ['-d', foreign]);
  }
  await refused(client.disconnectNbd('/dev/../dev/loop0'));
  await refused(client.makePlace({ session: '..', key: 'x' }));
  await refused(client.makePlace({ session: 's', key: 'a/b' }));
  await refused(client.clearPlace({ session: '.', key: '..' }, true));
  await refused(client.unexpose('/proc', true));
  expect(readdirSync('/proc').length).toBeGreaterThan(10);

  const device = await client.attachLoop(wholeDisk);
  const place = { session: 's', key: 'disk0' };
  // a kind of file system that must not reach the kernel is no mount
  const odd = await client.mount({ ...place, device, fsType: 'proc', replay: true });
  expect(odd).toEqual({ path: null, refusal: "unknown filesystem type 'proc'" });
  await client.mount({ ...place, device, fsType: 'ext4', replay: true });
  const options = execFileSync('findmnt', ['-n', '-o', 'OPTIONS', join(home, 'mnt/s/disk0')], {
    encoding: 'utf8',
  });
  expect(options).toMatch(/^ro,nosuid,nodev,noexec,/);
  mkdirSync(join(home, 'elsewhere'));
  mkdirSync(join(home, 'shown', 'here'), { recursive: true });
  symlinkSync(join(home, 'elsewhere'), join(home, 'shown', 'link'));
  await refused(client.expose(place, join(home, 'elsewhere')));
  await refused(client.expose(place, join(home, 'shown', 'link')));
  await refused(client.expose(place, '/etc/cron.d'));
  await client.expose(place, join(home, 'shown', 'here'));
  expect(readdirSync(join(home, 'shown', 'here'))).toEqual(['lost+found']);
  await client.unexpose(join(home, 'shown', 'here'), false);
  expect(await client.sweep()).toEqual({ mounts: 2, devices: 1 });
});

it('mounts in no folder that somebody else may write to, and follows no link there', async () => {
  await start();
  const place = { session: 's', key: 'k' };
  const base = join(home, 'mnt');
  await client.makePlace(place);
  await client.clearPlace(place, false);
  chownSync(base, NOBODY, NOBODY);
  await refused(client.makePlace(place));
  chownSync(base, 0, 0);
  execFileSync('chmod', ['777', base]);
  await refused(client.makePlace(place));
  rmSync(base, { recursive: true });
  mkdirSync(join(home, 'elsewhere'));
  symlinkSync(join(home, 'elsewhere'), base);
  await refused(client.makePlace(place));
  expect(readdirSync(join(home, 'elsewhere'))).toEqual([]);
  rmSync(base);
  mkdirSync(join(base, 's', 'k'), { recursive: true });
  writeFileSync(join(base, 's', 'k', 'important'), '');
  await refused(client.makePlace(place));
});

it('takes nothing but its own language', async () => {
  await start();
  const ask = (text: string) =>
    execFileSync(
      process.execPath,
      [
        '-e',
        `const s = require('net').connect(${JSON.stringify(socketFile())});
         s.on('data', (d) => { process.stdout.write(d); s.end(); }); s.on('error', () => {}); s.on('close', () => process.exit());
         s.write(${JSON.stringify(text)});`,
      ],
      { encoding: 'utf8', timeout: 10_000 },
    );
  for (const line of [
    'x',
    '{}',
    '[]',
    '{"id":1,"work":"constructor","args":[]}',
    '{"id":1,"work":"run","args":["sh"]}',
  ])
    expect(ask(`${line}\n`)).toContain('MOUNTD_REFUSED');
  expect(ask('{"id":7,"work":"sweep","args":["more"]}\n')).toMatch(/"id":7.*MOUNTD_REFUSED/);
  expect(ask('x'.repeat(100_000))).toBe('');
  expect(await client.sweep()).toEqual({ mounts: 0, devices: 0 });
});

/** Runs a client as somebody else; answers `yes` when the work was done. */
function askAs(uid: number): Promise<string> {
  const module = new URL('../../src/mountd/client.ts', import.meta.url).href;
  const script = `import { MountdClient } from ${JSON.stringify(module)};
    new MountdClient(${JSON.stringify(socketFile())}).sweep().then(() => console.log('yes'), (e) => console.log(e.code));
    setTimeout(() => {}, 300);`;
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      uid,
      gid: uid,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.on('data', (data) => {
      text += data;
    });
    child.on('close', () => resolve(text.trim()));
  });
}

it('listens to the owner of the run folder and to nobody else', async () => {
  execFileSync('chmod', ['755', home]);
  chownSync(join(home, 'run'), NOBODY, NOBODY);
  await start();
  expect(await askAs(NOBODY)).toBe('yes');
  expect(await askAs(STRANGER)).toBe('MOUNTD_UNREACHABLE');
  // root may open the socket of anybody, but is not the user
  expect(await askAs(0)).toBe('MOUNTD_UNREACHABLE');
  execFileSync('chmod', ['666', socketFile()]);
  expect(await askAs(STRANGER)).toBe('MOUNTD_UNREACHABLE');
  expect(await askAs(NOBODY)).toBe('yes');
  expect(readFileSync(join(home, 'mountd.log'), 'utf8')).toContain('turned away');
});

it('tells a client that it has gone, and hangs nobody', async () => {
  const server = createServer((socket) => socket.once('data', () => socket.destroy()));
  await new Promise<void>((resolve) => server.listen(socketFile(), resolve));
  const lonely = new MountdClient(socketFile());
  await expect(lonely.sweep()).rejects.toMatchObject({ code: 'MOUNTD_UNREACHABLE' });
  server.close();
  await expect(lonely.sweep()).rejects.toMatchObject({ code: 'MOUNTD_UNREACHABLE' });
});
