import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AgentExport, AgentExportPlace } from '../../src/agent/exports/agent-export.ts';
import { DataPorts } from '../../src/agent/exports/data-ports.ts';
import { openAgentExport } from '../../src/agent/exports/open-agent-export.ts';
import { SshServer } from '../../src/agent/exports/ssh-server.ts';
import { keyFingerprint, newPrivateKey, publicKeyOf } from '../../src/agent/identity/certificates.ts';
import type { AgentTls } from '../../src/agent/protocol/calls.ts';
import { createLogger } from '../../src/base/logger.ts';
import type { Agent, DataWay } from '../../src/catalog/agents.ts';
import { NbdConnection, type NbdEndpoint } from '../../src/nbd/client/nbd-connection.ts';
import { createLayer } from '../../src/qemu/qemu-img.ts';
import { StorageDaemon } from '../../src/qemu/storage-daemon.ts';
import { freePort } from '../support/agent.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';

const MIB = 1024 * 1024;
const logger = createLogger('error');
const work = mkdtempSync(join(tmpdir(), 'sd-exports-'));
let daemon: StorageDaemon;
let ssh: SshServer;
let sshPort: number;
let count = 0;

interface Peer {
  readonly agent: Agent;
  readonly key: string;
  readonly sshKeyFile: string;
}

async function newPeer(name: string, dataWay: DataWay): Promise<Peer> {
  const key = await newPrivateKey();
  const publicKey = publicKeyOf(key);
  const sshKeyFile = join(work, `${name}.ssh`);
  sh('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', sshKeyFile);
  const sshPublicKey = sh('cat', `${sshKeyFile}.pub`).trim().split(' ').slice(0, 2).join(' ');
  return {
    ...{ key, sshKeyFile },
    agent: {
      ...{ agentId: `agent-${name}`, name, status: 'approved', keyFingerprint: keyFingerprint(publicKey) },
      ...{ publicKey, sshPublicKey, hostName: name, version: '0', dataWay, rateBytes: 0, windows: [] },
      ...{ timeZone: 'UTC', resultHash: '', certificateUntil: null, createdAt: '', approvedAt: null },
      ...{ revokedAt: null, lastSeenAt: null },
    },
  };
}

beforeAll(async () => {
  mkdirSync(join(work, 'fuse'));
  daemon = new StorageDaemon({ logger, folder: join(work, 'qsd') });
  await daemon.start();
  sshPort = await freePort();
  mkdirSync(join(work, 'state'));
  ssh = await SshServer.start({
    ...{ logger, listen: `127.0.0.1:${sshPort}`, user: 'auto' },
    ...{ stateFolder: join(work, 'state'), runFolder: join(work, 'ssh') },
  });
});
afterAll(async () => {
  await ssh.stop();
  await daemon.stop();
  rmSync(work, { recursive: true, force: true });
});

const place = (backend: AgentExportPlace['backend']): AgentExportPlace => ({
  ...{ logger, backend, runFolder: join(work, 'run'), daemon, fuseFolder: join(work, 'fuse') },
  ...{ host: '127.0.0.1', ports: new DataPorts('any'), ssh },
});

async function open(
  backend: AgentExportPlace['backend'],
  { agent }: Peer,
  layer: string,
): Promise<AgentExport> {
  count += 1;
  return await openAgentExport(place(backend), {
    ...{ agent, id: `e${count}${randomBytes(2).toString('hex')}` },
    layer: { path: layer, parents: [], sizeBytes: 16 * MIB, exportName: `backup-test-${count}` },
  });
}

async function newLayer(): Promise<string> {
  const path = join(work, `layer-${randomBytes(3).toString('hex')}.qcow2`);
  await createLayer(path, 16 * MIB, null);
  return path;
}

const withKey = (tls: AgentTls | null, key: string): Pick<NbdEndpoint, 'tls'> =>
  tls === null ? {} : { tls: tls.kind === 'psk' ? tls : { ...tls, key } };

function endpoint(opened: AgentExport, peer: Peer): NbdEndpoint {
  const port = opened.way.kind === 'local' ? 0 : opened.way.port;
  return { exportName: opened.exportName, host: '127.0.0.1', port, ...withKey(opened.tls, peer.key) };
}

const refused = (target: NbdEndpoint) =>
  expect(NbdConnection.connect(target, { timeoutMs: 5_000 }).then((open) => open.close())).rejects.toThrow();

describe.each(['storage-daemon', 'nbd-server'] as const)('an export for an agent, by %s', (backend) => {
  it('lets in its own agent and nobody else', async () => {
    const [mine, other] = [await newPeer(`a${backend}`, 'tls'), await newPeer(`b${backend}`, 'tls')];
    const layer = await newLayer();
    await using opened = await open(backend, mine, layer);
    await using foreign = await open(backend, other, await newLayer());
    const target = endpoint(opened, mine);
    {
      await using connection = await NbdConnection.connect(target);
      await connection.write(3 * MIB, bytesOf('mine', MIB));
      await connection.flush();
    }
    const { tls, ...plain } = target;
    // without TLS, with another one's key, with a key of one's own, with another one's certificate
    await refused(plain as NbdEndpoint);
    await refused({ ...target, ...withKey(foreign.tls, other.key) });
    if (tls?.kind === 'psk')
      await refused({ ...target, tls: { ...tls, keyHex: randomBytes(32).toString('hex') } });
    // the right certificate is worth nothing without its key
    else if (tls)
      await expect(async () =>
        NbdConnection.connect({ ...target, tls: { ...tls, key: other.key } }),
      ).rejects.toThrow();
    // its own server has no other export
    await refused({ ...target, exportName: foreign.exportName });
  });

  it('is gone when its attempt is over, for who is connected too', async () => {
    const peer = await newPeer(`z${backend}`, 'tls');
    const layer = await newLayer();
    const first = await open(backend, peer, layer);
    const old = endpoint(first, peer);
    const zombie = await NbdConnection.connect(old);
    await zombie.write(0, bytesOf('first', MIB));
    await zombie.flush();
    await first[Symbol.asyncDispose]();
    await expect(zombie.write(MIB, bytesOf('late', MIB))).rejects.toThrow();
    await refused(old);
    {
      await using second = await open(backend, peer, layer);
      const now = endpoint(second, peer);
      // what it knew opens nothing of the next attempt
      await refused({ ...now, ...(old.tls ? { tls: old.tls } : {}) });
      await refused({ ...now, exportName: old.exportName });
      await using connection = await NbdConnection.connect(now);
      await connection.write(2 * MIB, bytesOf('second', MIB));
      await connection.flush();
    }
    zombie.destroy();
    sh('qemu-img', 'check', '-q', layer);
    const raw = `${layer}.raw`;
    sh('qemu-img', 'convert', '-O', 'raw', layer, raw);
    const expected = Buffer.alloc(16 * MIB);
    bytesOf('first', MIB).copy(expected, 0);
    bytesOf('second', MIB).copy(expected, 2 * MIB);
    writeFileSync(`${raw}.expected`, expected);
    sh('cmp', raw, `${raw}.expected`);
    expect(readdirSync(join(work, 'run'))).toEqual([]);
  });
});

/** An ssh of an agent, or of somebody who would like to be one. @returns whether the forwarded port answers */
async function reaches(peer: Peer, port: number, more: readonly string[] = []): Promise<boolean> {
  const local = await freePort();
  const args = [
    ...['-F', 'none', '-N', '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=no'],
    ...['-o', 'UserKnownHostsFile=/dev/null', '-o', 'ExitOnForwardFailure=yes', '-o', 'IdentitiesOnly=yes'],
    ...['-i', peer.sshKeyFile, '-p', String(sshPort), '-l', sshUser()],
    ...['-L', `127.0.0.1:${local}:127.0.0.1:${port}`, ...more, '127.0.0.1'],
  ];
  const client = spawn('ssh', args, { stdio: 'ignore' });
  const exited = new Promise((resolve) => client.once('exit', resolve));
  try {
    for (let round = 0; round < 60 && client.exitCode === null; round += 1) {
      const greeting = await greetingAt(local);
      if (greeting !== null) return greeting.startsWith('NBDMAGIC');
      await sleep(50);
    }
    return false;
  } finally {
    client.kill('SIGKILL');
    await exited;
  }
}

const sshUser = () => (process.getuid?.() === 0 ? tunnelUser() : sh('id', '-un').trim());
const tunnelUser = () =>
  sh('cat', '/etc/passwd').includes('\nsendense-tunnel:') ? 'sendense-tunnel' : 'nobody';

/** @returns null when nothing listens; empty when it is closed without a word */
function greetingAt(port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connectTcp({ host: '127.0.0.1', port });
    let isOpen = false;
    socket.once('connect', () => {
      isOpen = true;
    });
    socket.once('data', (bytes) => {
      socket.destroy();
      resolve(bytes.toString('latin1'));
    });
    socket.once('error', () => resolve(isOpen ? '' : null));
    socket.once('close', () => resolve(isOpen ? '' : null));
    socket.setTimeout(3_000, () => socket.destroy());
  });
}

describe('the ssh tunnel', () => {
  it('leads to the port of this transfer and nowhere else, and only while it runs', async () => {
    const [mine, other] = [await newPeer('tunnel-a', 'ssh'), await newPeer('tunnel-b', 'ssh')];
    const opened = await open('storage-daemon', mine, await newLayer());
    await using foreign = await open('storage-daemon', other, await newLayer());
    const port = opened.way.kind === 'ssh' ? opened.way.port : 0;
    const foreignPort = foreign.way.kind === 'ssh' ? foreign.way.port : 0;
    expect(await reaches(mine, port)).toBe(true);
    expect(await reaches(other, port)).toBe(false);
    expect(await reaches(mine, foreignPort)).toBe(false);
    expect(await reaches(mine, sshPort)).toBe(false);
    const stranger = await newPeer('stranger', 'ssh');
    expect(await reaches(stranger, port)).toBe(false);
    // what comes out of the tunnel still wants the key of this transfer
    await refused({ exportName: opened.exportName, host: '127.0.0.1', port });
    await opened[Symbol.asyncDispose]();
    expect(await reaches(mine, port)).toBe(false);
    // and what listens at that port later is not reached by the old permission
    expect(await reaches(mine, foreignPort)).toBe(false);
  });

  it('gives no shell, no command, no port of the other side', async () => {
    const peer = await newPeer('shell', 'ssh');
    await using opened = await open('storage-daemon', peer, await newLayer());
    expect(opened.way.kind).toBe('ssh');
    const options = [
      ...['-F', 'none', '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=no', '-o', 'IdentitiesOnly=yes'],
      ...[
        '-o',
        'UserKnownHostsFile=/dev/null',
        '-i',
        peer.sshKeyFile,
        '-p',
        String(sshPort),
        '-l',
        sshUser(),
      ],
    ];
    const attempt = (...args: string[]) =>
      new Promise<{ code: number | null; output: string }>((resolve) => {
        const client = spawn('timeout', ['10', 'ssh', ...options, ...args], {
          stdio: ['ignore', 'pipe', 'pipe'],
        });
        let output = '';
        client.stdout.on('data', (bytes) => {
          output += bytes;
        });
        client.once('close', (code) => resolve({ code, output }));
      });
    const command = await attempt('127.0.0.1', 'echo', 'inside');
    expect(command.output).not.toContain('inside');
    expect(command.code).not.toBe(0);
    const back = await attempt(
      ...['-N', '-o', 'ExitOnForwardFailure=yes', '-R', `127.0.0.1:${await freePort()}:127.0.0.1:1`],
      '127.0.0.1',
    );
    expect(back.code).toBe(255);
  });

  it('is cut when the permission ends', async () => {
    const peer = await newPeer('cut', 'ssh');
    const opened = await open('storage-daemon', peer, await newLayer());
    const port = opened.way.kind === 'ssh' ? opened.way.port : 0;
    const local = await freePort();
    const client = spawn(
      'ssh',
      [
        ...['-F', 'none', '-N', '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=no'],
        ...['-o', 'UserKnownHostsFile=/dev/null', '-i', peer.sshKeyFile, '-p', String(sshPort)],
        ...['-l', sshUser(), '-L', `127.0.0.1:${local}:127.0.0.1:${port}`, '127.0.0.1'],
      ],
      { stdio: 'ignore' },
    );
    const exited = new Promise<number | null>((resolve) => client.once('exit', (code) => resolve(code)));
    for (let round = 0; round < 100 && (await greetingAt(local)) === null; round += 1) await sleep(50);
    await opened[Symbol.asyncDispose]();
    expect(await Promise.race([exited, sleep(10_000, 'still there')])).toBe(255);
    client.kill('SIGKILL');
  });
});
