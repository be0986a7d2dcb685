import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

interface Live {
  live_id: string;
  socket: string;
  port: number;
  tls: boolean;
  clients: number;
  psk: { identity: string; key: string } | null;
  disks: { connect: { uri: string; nbdinfo: string; nbdcopy: string } }[];
}

const MIB = 1024 * 1024;
const work = mkdtempSync(join(tmpdir(), 'sd-live-'));
const file = (name: string) => join(work, name);
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const settings = ['live.max=3', `live.overlay_limit_bytes=${8 * MIB}`];
const clients: ChildProcess[] = [];
let backupId = '';
let size = 0;

const open = (...more: string[]): Live =>
  appliance.json<Live>('restore', 'live', '--backup-id', backupId, ...more);
const remove = (live: Live, ...more: string[]) =>
  appliance.json('restore', 'live', 'remove', live.live_id, ...more);
const uriOf = (live: Live) => live.disks[0]?.connect.uri ?? '';
const listed = () => appliance.json<{ exports: Live[] }>('restore', 'live', 'list').exports;
/** Digests of every layer of the repository. */
const layers = () =>
  sh(
    'sh',
    '-c',
    `cd '${join(appliance.home, 'backups')}' && find . -name '*.qcow2' | sort | xargs sha256sum`,
  );

/** A client that stays connected until it is told to go. */
async function connect(live: Live): Promise<ChildProcess> {
  const client = spawn('qemu-io', ['-r', '-f', 'raw', uriOf(live)], { stdio: ['pipe', 'ignore', 'ignore'] });
  clients.push(client);
  await until(
    'the client is connected',
    () => (listed().find(({ live_id }) => live_id === live.live_id)?.clients ?? 0) > 0,
  );
  return client;
}
async function leave(client: ChildProcess): Promise<void> {
  client.stdin?.end('quit\n');
  await until('the client has left', () => client.exitCode !== null || client.signalCode !== null);
}

beforeAll(async () => {
  const disk = new RandomDisk(file('a.img'), 24, 5);
  await appliance.start(settings);
  appliance.json('vm', 'add', 'm', '--disk', file('a.img'));
  for (const type of ['full', 'incremental', 'incremental']) {
    disk.write(10);
    backupId = operator.backUp('m', type).backup_id;
  }
  copyFileSync(file('a.img'), file('expected.raw'));
  size = statSync(file('expected.raw')).size;
});
afterAll(async () => {
  for (const client of clients) client.kill('SIGKILL');
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

describe('read-only', () => {
  it('shows the disk to every kind of client, and holds the backup', () => {
    const live = open();
    expect(statSync(live.socket).mode & 0o777).toBe(0o660);
    expect(sh('nbdinfo', '--size', uriOf(live)).trim()).toBe(String(size));
    sh('sh', '-c', `cd '${work}' && ${live.disks[0]?.connect.nbdcopy} && ${live.disks[0]?.connect.nbdinfo}`);
    sh('cmp', file('disk0.raw'), file('expected.raw'));
    sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', uriOf(live), file('expected.raw'));
    expect(spawnSync('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uriOf(live)]).status).not.toBe(0);
    expectFailure(appliance.ctl('backup', 'delete', backupId), 'BACKUP_BUSY', 11);
    const kept = appliance.ctl('restore', 'live', 'keep', live.live_id, '--output', file('no.qcow2'));
    expectFailure(kept, 'LIVE_READ_ONLY', 13);
    expect(appliance.json('restore', 'live', 'show', live.live_id)).not.toHaveProperty('psk');
    remove(live);
    expect(existsSync(live.socket)).toBe(false);
    expectFailure(appliance.ctl('restore', 'live', 'show', live.live_id), 'LIVE_UNKNOWN', 10);
    expect(operator.events('live.opened')).toHaveLength(1);
    expect(operator.events('live.closed')).toHaveLength(1);
  });

  it('over TCP, with TLS and a key when that is wanted', () => {
    const plain = open('--tcp');
    sh('nbdcopy', uriOf(plain), file('tcp.raw'));
    sh('cmp', file('tcp.raw'), file('expected.raw'));
    remove(plain);

    const live = open('--tcp', '--tls');
    mkdirSync(file('keys'), { recursive: true });
    writeFileSync(file('keys/keys.psk'), `sendense:${live.psk?.key}\n`);
    const secure = `nbds://sendense@127.0.0.1:${live.port}/disk0?tls-psk-file=${file('keys/keys.psk')}`;
    expect(sh('nbdinfo', '--size', secure).trim()).toBe(String(size));
    sh('nbdcopy', secure, file('tls.raw'));
    sh('cmp', file('tls.raw'), file('expected.raw'));
    const qemu = (folder: string) => [
      ...[
        'info',
        '--object',
        `tls-creds-psk,id=t,endpoint=client,dir=${folder},username=sendense`,
        '--image-opts',
      ],
      `driver=nbd,server.type=inet,server.host=127.0.0.1,server.port=${live.port},export=disk0,tls-creds=t`,
    ];
    expect(sh('qemu-img', ...qemu(file('keys')))).toContain(`(${size} bytes)`);
    mkdirSync(file('other'));
    writeFileSync(file('other/keys.psk'), `sendense:${'0'.repeat(64)}\n`);
    expect(spawnSync('qemu-img', qemu(file('other'))).status).not.toBe(0);
    // without TLS nothing is told, not even that there is an export
    const bare = spawnSync('nbdinfo', [`nbd://127.0.0.1:${live.port}/disk0`], { encoding: 'utf8' });
    expect(bare.status).not.toBe(0);
    expect(bare.stdout).not.toContain(String(size));
    remove(live);
  });
});

describe('writable', () => {
  it('takes writes that can be kept, and never changes a layer', async () => {
    const before = layers();
    const live = open('--writable');
    copyFileSync(file('expected.raw'), file('written.raw'));
    const mirror = openSync(file('written.raw'), 'r+');
    for (let index = 0; index < 20; index += 1) {
      const length = 512 * (1 + ((index * 37) % 200));
      const offset = 512 * Math.floor(((index * 7919) % 1000) * ((size - length) / 512 / 1000));
      const bytes = index % 4 === 3 ? Buffer.alloc(length) : bytesOf(`live${index}`, length);
      writeFileSync(file('piece'), bytes);
      const write =
        index % 4 === 3 ? `write -z ${offset} ${length}` : `write -s ${file('piece')} ${offset} ${length}`;
      sh('qemu-io', '-f', 'raw', '-c', write, uriOf(live));
      writeSync(mirror, bytes, 0, length, offset);
    }
    closeSync(mirror);
    const client = await connect(live);
    const keep = ['restore', 'live', 'keep', live.live_id, '--output', file('kept.qcow2')];
    expectFailure(appliance.ctl(...keep), 'LIVE_BUSY', 11);
    expectFailure(appliance.ctl('restore', 'live', 'remove', live.live_id), 'LIVE_BUSY', 11);
    await leave(client);
    appliance.json(...keep);
    expectFailure(appliance.ctl(...keep), 'OUTPUT_EXISTS', 13);
    expect(sh('qemu-img', 'info', file('kept.qcow2'))).not.toContain('backing');
    sh('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', file('written.raw'), file('kept.qcow2'));
    // it is served again, with all that was written
    await until('it is served again', () => spawnSync('nbdinfo', [uriOf(live)]).status === 0);
    sh('nbdcopy', uriOf(live), file('again.raw'));
    sh('cmp', file('again.raw'), file('written.raw'));
    const holder = await connect(live);
    rmSync(file('kept.qcow2'));
    appliance.json(...keep.map((word) => word.replace('.qcow2', '.raw')), '--as', 'raw', '--disconnect');
    sh('cmp', file('kept.raw'), file('written.raw'));
    holder.kill('SIGKILL');
    await until('it is served again', () => spawnSync('nbdinfo', [uriOf(live)]).status === 0);
    remove(live, '--disconnect');
    expect(readdirSync(join(appliance.home, 'state', 'live'))).toEqual([]);
    expect(layers()).toBe(before);
    operator.restore(backupId, 0, file('after.raw'));
    sh('cmp', file('after.raw'), file('expected.raw'));
  });

  it('has a limit to what can be written', () => {
    const live = open('--writable');
    sh('dd', 'if=/dev/urandom', `of=${file('noise')}`, `bs=${size}`, 'count=1', 'status=none');
    const full = spawnSync('nbdcopy', [file('noise'), uriOf(live)], { encoding: 'utf8' });
    expect(full.stderr).toContain('No space left');
    remove(live, '--disconnect');
  });

  it('serves again with what was flushed when its storage daemon dies', async () => {
    const live = open('--writable');
    writeFileSync(file('piece'), bytesOf('survives', 64 * 1024));
    sh('qemu-io', '-f', 'raw', '-c', `write -s ${file('piece')} 1M 64k`, '-c', 'flush', uriOf(live));
    const client = await connect(live);
    const [pid] = appliance
      .processes('qemu-storage-daemon')
      .filter((one) => sh('cat', `/proc/${one}/cmdline`).includes(live.live_id));
    process.kill(pid ?? 0, 'SIGKILL');
    await until('it serves again', () => operator.events('live.restarted').length === 1);
    await until('it answers', () => spawnSync('nbdinfo', [uriOf(live)]).status === 0);
    expect(statSync(live.socket).mode & 0o777).toBe(0o660);
    sh('nbdcopy', uriOf(live), file('survived.raw'));
    copyFileSync(file('expected.raw'), file('with-piece.raw'));
    sh(
      'dd',
      `if=${file('piece')}`,
      `of=${file('with-piece.raw')}`,
      'bs=64K',
      'seek=16',
      'conv=notrunc',
      'status=none',
    );
    sh('cmp', file('survived.raw'), file('with-piece.raw'));
    client.kill('SIGKILL');
    remove(live, '--disconnect');
  });
});

describe('its end', () => {
  it('comes with time, but not for who is connected', async () => {
    const used = open('--expires', '6s');
    const client = await connect(used);
    const forced = open('--expires', '5s', '--force-expiry');
    const cut = await connect(forced);
    const idle = open('--expires', '1s');
    expectFailure(appliance.ctl('restore', 'live', '--backup-id', backupId), 'LIMIT_REACHED', 11);
    await until('two are gone', () => listed().length === 1);
    expect(listed()[0]?.live_id).toBe(used.live_id);
    expect(existsSync(idle.socket)).toBe(false);
    await leave(client);
    await until('all are gone', () => listed().length === 0);
    cut.kill('SIGKILL');
  });

  it('comes with the end of the daemon, however that comes', async () => {
    const [live] = [open('--writable'), open()];
    const client = await connect(live);
    await appliance.kill();
    await appliance.start([...settings, 'live.tcp_address=0.0.0.0']);
    await until('the client is let go', () => {
      if (client.exitCode === null && client.stdin?.writable) client.stdin.write('read 0 512\nquit\n');
      return client.exitCode !== null || client.signalCode !== null;
    });
    expect(listed()).toEqual([]);
    for (const folder of ['state/live', 'run/live'])
      expect(readdirSync(join(appliance.home, ...folder.split('/')))).toEqual([]);
    expect(appliance.processes('live-')).toEqual([]);
    // beyond this machine only with TLS
    const wide = open('--tcp');
    expect(wide.tls).toBe(true);
    expect(spawnSync('nbdinfo', [`nbd://127.0.0.1:${wide.port}/disk0`]).status).not.toBe(0);
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    await appliance.start(settings);
    expect(appliance.ctl('backup', 'delete', backupId).code).toBe(0);
  });
});
