import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { ClientDuplexStream, ClientReadableStream } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AgentHub } from '../../src/agent/hub/agent-hub.ts';
import { type AgentListener, listenForAgents } from '../../src/agent/hub/agent-listener.ts';
import { AgentOffice } from '../../src/agent/hub/agent-office.ts';
import { EnrolmentDesk } from '../../src/agent/hub/enrolment-desk.ts';
import { type Authority, openAuthority } from '../../src/agent/identity/authority.ts';
import { makeRequest, newPrivateKey, publicKeyOf } from '../../src/agent/identity/certificates.ts';
import { pinOf, readCode, writeCode } from '../../src/agent/identity/pairing-code.ts';
import { ControlClient, EnrolmentClient } from '../../src/agent/protocol/load-proto.ts';
import type { ToAgent } from '../../src/agent/protocol/messages.ts';
import { agentHome, readCredentials, readSettings } from '../../src/agent/source/agent-home.ts';
import { awaitApproval, enroll } from '../../src/agent/source/enroll.ts';
import { targetOf } from '../../src/agent/source/find-appliance.ts';
import { TransferBoard } from '../../src/agent/transfers/transfer-board.ts';
import { WantedSnapshots } from '../../src/agent/transfers/wanted-snapshots.ts';
import { createLogger } from '../../src/base/logger.ts';
import { SendenseError } from '../../src/base/sendense-error.ts';
import { type Catalog, createCatalog } from '../../src/catalog/catalog.ts';
import { RowJournal } from '../../src/nbd/mover/rows/row-journal.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-control-'));
const logger = createLogger('silent');
const clock = { offsetMs: 0, now: () => new Date(Date.now() + clock.offsetMs) };
let catalog: Catalog;
let authority: Authority;
let desk: EnrolmentDesk;
let hub: AgentHub;
let listener: AgentListener;
let office: AgentOffice;
const board = new TransferBoard();
let count = 0;

beforeAll(async () => {
  catalog = createCatalog(join(work, 'catalog.db'), clock, logger);
  authority = await openAuthority(join(work, 'agents'), clock);
  const say = () => undefined;
  hub = new AgentHub({
    ...{ catalog, clock, logger, version: '1', patienceMs: 1_000, board, say },
    snapshots: new WantedSnapshots(),
  });
  desk = new EnrolmentDesk({ catalog, clock, authority, certificateMs: 3600_000, say });
  listener = await listenForAgents('127.0.0.1:0', {
    ...{ agents: catalog.agents, authority, desk, hub, logger },
    parentRows: (id, agentId) => {
      board.parentRows(id, agentId);
      return (async function* () {})();
    },
  });
  office = new AgentOffice({ catalog, clock, hub, desk, listener, say, wayObjection: () => null });
});
afterEach(() => {
  clock.offsetMs = 0;
});
afterAll(async () => {
  await hub[Symbol.asyncDispose]();
  await listener.close();
  catalog[Symbol.dispose]();
  rmSync(work, { recursive: true, force: true });
});

const address = () => `127.0.0.1:${listener.port}`;
const newHome = () => {
  count += 1;
  return agentHome(join(work, `home-${count}`));
};
const enrolling = (code: string, at = address(), home = newHome()) => {
  const name = `agent${count}`;
  return enroll({ home, appliance: at, code, name, allow: [], version: '1' }).then(() => ({ home, name }));
};
/** An agent that is in. */
const member = async () => await enrolling(desk.invite(null, true).code);

/** What a raw client hears on the control connection, up to its end. */
class RawAgent {
  readonly heard: ToAgent[] = [];
  readonly stream: ClientDuplexStream<object, ToAgent>;
  readonly ended: Promise<string>;
  readonly client: InstanceType<typeof ControlClient>;

  constructor(target: ReturnType<typeof targetOf>) {
    this.client = new ControlClient(target.address, target.credentials, target.options);
    this.stream = this.client['Connect']?.() as ClientDuplexStream<object, ToAgent>;
    this.stream.on('data', (message: ToAgent) => this.heard.push(message));
    this.ended = new Promise((resolve) => {
      this.stream.on('error', (error) => resolve(error.message));
      this.stream.on('end', () => resolve('end'));
    });
  }

  hello(more: object = {}): this {
    const hello = {
      oldestProtocol: 1,
      newestProtocol: 1,
      version: '1',
      hostName: 'h',
      time: new Date().toISOString(),
    };
    this.stream.write({ hello: { ...hello, transfers: [], ...more } });
    return this;
  }

  async welcomed(): Promise<void> {
    for (let round = 0; round < 200 && this.heard.length === 0; round += 1) await sleep(10);
    expect(this.heard[0]?.message).toBe('welcome');
  }

  /** The refusal that it got first and last. */
  async refused(): Promise<string> {
    await this.ended;
    this.client.close();
    const [first] = this.heard;
    return first?.message === 'refused' ? first.refused.code : `not refused: ${await this.ended}`;
  }

  /** It is refused, or cut off before anything is said to it: OpenSSL likes no forged signatures. */
  async shutOut(): Promise<void> {
    await this.ended;
    this.client.close();
    expect(this.heard.map(({ message }) => message).filter((message) => message !== 'refused')).toEqual([]);
  }

  close(): void {
    this.stream.on('error', () => undefined);
    this.stream.cancel();
    this.client.close();
  }
}

const here = () => ({ host: '127.0.0.1', port: listener.port });
const connectAs = async ({ home }: { home: ReturnType<typeof agentHome> }) =>
  new RawAgent(targetOf(here(), authority.certificate, await readCredentials(home)));

describe('pairing', () => {
  it('waits for an operator, and ends with a certificate', async () => {
    const home = newHome();
    await enrolling(desk.invite('site1', false).code, address(), home);
    expect(office.show('site1')).toMatchObject({ status: 'pending' });
    await expect(readCredentials(home)).rejects.toMatchObject({ code: 'AGENT_NOT_ENROLLED' });
    desk.approve('site1');
    await awaitApproval(home, AbortSignal.timeout(10_000));
    expect(await readSettings(home)).toMatchObject({ agentName: 'site1', waiting: null });
    const raw = (await connectAs({ home })).hello();
    await raw.welcomed();
    expect(office.show('site1').isConnected).toBe(true);
    raw.close();
  });

  it('tells who was rejected', async () => {
    const home = newHome();
    const { name } = await enrolling(desk.invite(null, false).code, address(), home);
    desk.reject(name);
    await expect(awaitApproval(home, AbortSignal.timeout(10_000))).rejects.toMatchObject({
      code: 'PAIRING_REFUSED',
    });
    // and lets it come again
    await enrolling(desk.invite(null, true).code, address(), home);
  });

  it('takes a code once, and for ten minutes', async () => {
    const { code } = desk.invite(null, true);
    await enrolling(code);
    await expect(enrolling(code)).rejects.toMatchObject({ message: expect.stringContaining('used already') });
    const late = desk.invite(null, true).code;
    clock.offsetMs = 10 * 60_000 + 1_000;
    await expect(enrolling(late)).rejects.toMatchObject({ message: expect.stringContaining('are over') });
  });

  it('takes each code only once, also from many at once', async () => {
    const { code } = desk.invite(null, true);
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => enrolling(code)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('never tells a secret to another appliance than the one that made the code', async () => {
    const { code } = desk.invite(null, true);
    // somebody in between with an authority of his own, made as ours is
    const impostor = await openAuthority(join(work, 'impostor'), clock);
    const secrets: string[] = [];
    const fake = await listenForAgents('127.0.0.1:0', {
      ...{ agents: catalog.agents, authority: impostor, hub, logger },
      desk: {
        enrol: async ({ secret }: { secret: string }) => secrets.push(secret),
      } as unknown as EnrolmentDesk,
      parentRows: async function* () {},
    });
    await expect(enrolling(code, `127.0.0.1:${fake.port}`)).rejects.toMatchObject({
      code: 'APPLIANCE_NOT_TRUSTED',
    });
    // who shows our public certificate beside his own proves nothing with it
    const dressed = await listenForAgents('127.0.0.1:0', {
      ...{ agents: catalog.agents, hub, logger, parentRows: async function* () {} },
      authority: { ...impostor, certificate: authority.certificate },
      desk: {
        enrol: async ({ secret }: { secret: string }) => secrets.push(secret),
      } as unknown as EnrolmentDesk,
    });
    await expect(enrolling(code, `127.0.0.1:${dressed.port}`)).rejects.toMatchObject({
      code: 'APPLIANCE_NOT_TRUSTED',
    });
    expect(secrets).toEqual([]);
    await Promise.all([fake.close(), dressed.close()]);
    await enrolling(code);
  });

  it('makes guessing slow, and tells nothing about codes that were never made', async () => {
    const { pin } = readCode(desk.invite(null, true).code);
    const codes: string[] = [];
    for (let tries = 0; tries < 7; tries += 1) {
      const guess = writeCode({ pin, secret: `000000000000${tries}` });
      codes.push(
        await enrolling(guess).then(
          () => 'in',
          (error: { code: string }) => error.code,
        ),
      );
    }
    expect(codes.slice(0, 5)).toEqual(Array(5).fill('PAIRING_REFUSED'));
    expect(codes.slice(5)).toEqual(Array(2).fill('PAIRING_LIMITED'));
    clock.offsetMs = 61_000;
    await enrolling(desk.invite(null, true).code);
  });

  it('signs only keys that the asker owns', async () => {
    clock.offsetMs = 200_000;
    const { secret } = readCode(desk.invite(null, true).code);
    const client = new EnrolmentClient(...enrolTarget());
    const ask = (certificateRequest: string) =>
      new Promise<string>((resolve) => {
        const order = { secret, certificateRequest, name: 'x', hostName: 'h', version: '1' };
        const sshPublicKey = `ssh-ed25519 ${'A'.repeat(68)}`;
        client['Enrol']?.({ ...order, sshPublicKey }, (error: Error | null) =>
          resolve(error?.message ?? 'in'),
        );
      });
    for (const request of ['', 'x'.repeat(4000), authority.certificate])
      expect(await ask(request)).toContain('no P-256 key that it owns');
    // a request whose signature was made by another key
    const [one, two] = [await makeRequest(await newPrivateKey()), await makeRequest(await newPrivateKey())];
    const mixed = Buffer.from(one.replace(/-----[^-]+-----|\n/g, ''), 'base64');
    const tail = Buffer.from(two.replace(/-----[^-]+-----|\n/g, ''), 'base64').subarray(-40);
    tail.copy(mixed, mixed.length - 40);
    const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${mixed.toString('base64')}\n-----END CERTIFICATE REQUEST-----`;
    expect(await ask(pem)).toContain('no P-256 key that it owns');
    client.close();
  });
});

const enrolTarget = (): ConstructorParameters<typeof EnrolmentClient> => {
  const { address: at, credentials, options } = targetOf(here(), authority.certificate, null);
  return [at, credentials, options];
};

describe('the control connection', () => {
  it('is for agents that are in', async () => {
    const stranger = new RawAgent(targetOf(here(), authority.certificate, null));
    expect(await stranger.hello().refused()).toBe('AGENT_REFUSED');
    // a certificate of the right form from another authority
    const impostor = await openAuthority(join(work, 'impostor'), clock);
    const key = await newPrivateKey();
    const { pem } = await impostor.signAgent('agent-x', publicKeyOf(key), 60_000);
    const forged = new RawAgent(
      targetOf(here(), authority.certificate, { key, certificate: pem, authority: authority.certificate }),
    );
    await forged.hello().shutOut();
    // one of our own authority for a key that nobody approved
    const unknown = await authority.signAgent('agent-y', publicKeyOf(key), 60_000);
    const signed = new RawAgent(
      targetOf(here(), authority.certificate, {
        key,
        certificate: unknown.pem,
        authority: authority.certificate,
      }),
    );
    expect(await signed.hello().refused()).toBe('AGENT_REFUSED');
  });

  it('does not take a certificate of another authority for a key that is known', async () => {
    const known = await member();
    const { key } = await readCredentials(known.home);
    const impostor = await openAuthority(join(work, 'impostor'), clock);
    const { pem } = await impostor.signAgent('agent-x', publicKeyOf(key), 60_000);
    const forged = new RawAgent(
      targetOf(here(), authority.certificate, { key, certificate: pem, authority: authority.certificate }),
    );
    await forged.hello().shutOut();
    // nor one whose time is over
    const old = await authority.signAgent('agent-x', publicKeyOf(key), -1_000);
    const expired = new RawAgent(
      targetOf(here(), authority.certificate, {
        key,
        certificate: old.pem,
        authority: authority.certificate,
      }),
    );
    expect(await expired.hello().refused()).toBe('AGENT_REFUSED');
  });

  it('agrees on a version, or says what is wrong', async () => {
    const known = await member();
    const newer = (await connectAs(known)).hello({ oldestProtocol: 7, newestProtocol: 9 });
    expect(await newer.refused()).toBe('AGENT_VERSION');
    const older = (await connectAs(known)).hello({ oldestProtocol: 0, newestProtocol: 0 });
    expect(await older.refused()).toBe('AGENT_VERSION');
    const both = (await connectAs(known)).hello({ oldestProtocol: 1, newestProtocol: 9 });
    await both.welcomed();
    both.close();
  });

  it('ends at once when the agent is revoked, and stays closed', async () => {
    const known = await member();
    const raw = (await connectAs(known)).hello();
    await raw.welcomed();
    const since = Date.now();
    office.revoke(known.name);
    await raw.ended;
    expect(Date.now() - since).toBeLessThan(2_000);
    raw.client.close();
    expect(await (await connectAs(known)).hello().refused()).toBe('AGENT_REFUSED');
  });

  it('gets a new certificate for its own key, and for no other', async () => {
    const known = await member();
    const raw = (await connectAs(known)).hello();
    await raw.welcomed();
    const renew = async (key: string) => {
      const certificateRequest = await makeRequest(key);
      return await new Promise<string>((resolve) => {
        raw.client['Renew']?.({ certificateRequest }, (error: Error | null, reply: { certificate: string }) =>
          resolve(error === null ? reply.certificate : error.message),
        );
      });
    };
    const { key, certificate } = await readCredentials(known.home);
    const renewed = await renew(key);
    expect(renewed).toContain('BEGIN CERTIFICATE');
    expect(renewed).not.toBe(certificate);
    expect(await renew(await newPrivateKey())).toContain('another key');
    raw.close();
    const again = new RawAgent(
      targetOf(here(), authority.certificate, {
        key,
        certificate: renewed,
        authority: authority.certificate,
      }),
    ).hello();
    await again.welcomed();
    again.close();
  });

  it.each([
    ['no greeting', (raw: RawAgent) => raw.stream.write({ heartbeat: {} })],
    ['an empty message', (raw: RawAgent) => raw.stream.write({})],
    ['a second greeting', (raw: RawAgent) => raw.hello().hello()],
    [
      'rows of nobody with a broken id',
      (raw: RawAgent) => raw.hello().stream.write({ ended: { transferId: '../x' } }),
    ],
    [
      'a number beyond 2^53',
      (raw: RawAgent) =>
        raw.hello().stream.write({ progress: { transferId: 'x', processedBytes: '18446744073709551615' } }),
    ],
    [
      'a message of 4 MiB',
      (raw: RawAgent) =>
        raw.hello().stream.write({ answer: { callId: 1, body: 'x'.repeat(4 * 1024 * 1024) } }),
    ],
  ])('is cut off for %s', async (_what, misbehave) => {
    const raw = await connectAs(await member());
    misbehave(raw);
    expect(await Promise.race([raw.ended, sleep(5_000, 'still open')])).not.toBe('still open');
    raw.client.close();
  });

  it('survives what is no gRPC, and connections that say nothing', async () => {
    const garbage = (bytes: Buffer) =>
      new Promise<void>((resolve) => {
        const socket = connectTls({ ...here(), rejectUnauthorized: false, ALPNProtocols: ['h2'] }, () =>
          socket.write(bytes),
        );
        socket.once('close', () => resolve()).on('error', () => undefined);
        setTimeout(() => socket.destroy(), 500);
      });
    await Promise.all([garbage(Buffer.alloc(100_000, 0xff)), garbage(Buffer.from('GET / HTTP/1.1\r\n\r\n'))]);
    const plain = connectTcp(here());
    plain.on('error', () => undefined).write('hello');
    const raw = (await connectAs(await member())).hello();
    await raw.welcomed();
    raw.close();
    plain.destroy();
  });

  it('fails a call that is never answered, and one that is answered with nonsense', async () => {
    const known = await member();
    const raw = (await connectAs(known)).hello();
    await raw.welcomed();
    const asked = office.ask(known.name, 'inspect', { path: '/x', format: null, allowBacking: [] });
    asked.catch(() => undefined);
    // it hears its limit before
    const call = () =>
      raw.heard.flatMap((heard) =>
        heard.message === 'call' && heard.call.method === 'inspect' ? [heard.call] : [],
      )[0];
    for (let round = 0; round < 100 && call() === undefined; round += 1) await sleep(10);
    const callId = call()?.callId ?? 0;
    raw.stream.write({
      answer: { callId, body: '{"path":"/x","format":"raw","sizeBytes":-5,"allocatedBytes":null}' },
    });
    await expect(asked).rejects.toMatchObject({ code: 'AGENT_ANSWER_INVALID' });
    const silent = office.ask(known.name, 'discover', { kind: 'image', place: '' });
    silent.catch(() => undefined);
    raw.close();
    await expect(silent).rejects.toMatchObject({ code: 'AGENT_OFFLINE' });
  });
});

describe('a transfer', () => {
  const post = async (agentName: string, sizeBytes: number, isFull = true) => {
    const agentId = catalog.agents.byName(agentName)?.agentId ?? '';
    const transferId = `transfer-${Math.random().toString(16).slice(2)}`;
    const journal = await RowJournal.open(join(work, `${transferId}.journal`), {
      sizeBytes,
      isFull,
      invalid: (detail) => new SendenseError('AGENT_ANSWER_INVALID', { agent: agentName, detail }),
    });
    const ended = board.post({
      ...{ transferId, agentId, agentName, journal, sizeBytes, parentRows: [], patienceMs: 300 },
      onProgress: () => undefined,
    });
    return { transferId, journal, ended };
  };
  const b3 = Buffer.alloc(32, 7);

  it('of another agent cannot be spoken of, and its rows cannot be read', async () => {
    const [mine, other] = [await member(), await member()];
    const { transferId, journal } = await post(mine.name, 1024);
    const raw = (await connectAs(other)).hello({ transfers: [transferId] });
    await raw.welcomed();
    expect(raw.heard[0]).toMatchObject({ welcome: { transfers: [] } });
    const rows = raw.client['ParentRows']?.({ transferId }) as ClientReadableStream<unknown>;
    const failed = new Promise<string>((resolve) => rows.on('error', (error) => resolve(error.message)));
    rows.resume();
    expect(await failed).toContain('not its own');
    raw.stream.write({ ended: { transferId, errorCode: '' } });
    await raw.ended;
    raw.client.close();
    await board.remove(transferId);
    await journal[Symbol.asyncDispose]();
  });

  it.each([
    ['begin in the middle', { from: 512, until: 1024, rows: [] }],
    ['reach beyond the disk', { from: 0, until: 4096, rows: [{ offset: 0, size: 4096, b3 }] }],
    ['leave a gap in a full', { from: 0, until: 1024, rows: [{ offset: 512, size: 512, b3 }] }],
    [
      'overlap',
      {
        from: 0,
        until: 1024,
        rows: [
          { offset: 0, size: 1024, b3 },
          { offset: 512, size: 512, b3 },
        ],
      },
    ],
    ['end early', { from: 0, until: 1024, rows: [{ offset: 0, size: 512, b3 }] }],
  ])('ends when its rows %s', async (_what, batch) => {
    const known = await member();
    const { transferId, journal, ended } = await post(known.name, 1024);
    const raw = (await connectAs(known)).hello({ transfers: [transferId] });
    await raw.welcomed();
    raw.stream.write({ rows: { transferId, ...batch } });
    await expect(ended).rejects.toMatchObject({ code: 'AGENT_ANSWER_INVALID' });
    expect(journal.until).toBe(0);
    raw.close();
    await board.remove(transferId);
    await journal[Symbol.asyncDispose]();
  });

  it('goes on over a second connection, and what was told twice counts once', async () => {
    const known = await member();
    const { transferId, journal, ended } = await post(known.name, 2048);
    const first = (await connectAs(known)).hello({ transfers: [transferId] });
    await first.welcomed();
    const batch = { transferId, from: 0, until: 1024, rows: [{ offset: 0, size: 1024, b3 }] };
    first.stream.write({ rows: batch });
    for (let round = 0; round < 100 && journal.until === 0; round += 1) await sleep(10);
    first.close();
    await sleep(50);
    const second = (await connectAs(known)).hello({ transfers: [transferId] });
    await second.welcomed();
    expect(second.heard[0]).toMatchObject({ welcome: { transfers: [{ transferId, rowsUntil: 1024 }] } });
    second.stream.write({ rows: batch });
    second.stream.write({
      rows: { transferId, from: 1024, until: 2048, rows: [{ offset: 1024, size: 1024, b3 }] },
    });
    second.stream.write({ ended: { transferId, errorCode: '' } });
    await ended;
    expect((await Array.fromAsync(journal.rows())).map(({ offset }) => offset)).toEqual([0, 1024]);
    second.close();
    await board.remove(transferId);
    await journal[Symbol.asyncDispose]();
  });

  it('is given up when its agent stays away, and when it comes back without it', async () => {
    const known = await member();
    const away = await post(known.name, 1024);
    const raw = (await connectAs(known)).hello({ transfers: [away.transferId] });
    await raw.welcomed();
    raw.close();
    await expect(away.ended).rejects.toMatchObject({ code: 'AGENT_OFFLINE' });
    const restarted = await post(known.name, 1024);
    const again = (await connectAs(known)).hello();
    await expect(restarted.ended).rejects.toMatchObject({ code: 'AGENT_LOST' });
    again.close();
    for (const { transferId, journal } of [away, restarted]) {
      await board.remove(transferId);
      await journal[Symbol.asyncDispose]();
    }
  });
});

describe('the pin of a code', () => {
  it('is that of the authority', () => {
    expect(readCode(desk.invite(null, false).code).pin).toBe(pinOf(authority.fingerprint));
  });

  it('is found before a word is said, also where nobody speaks TLS', async () => {
    const server = createTcpServer((socket) => socket.end('220 mail ready\r\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const port = (server.address() as { port: number }).port;
    await expect(enrolling(desk.invite(null, true).code, `127.0.0.1:${port}`)).rejects.toMatchObject({
      code: 'APPLIANCE_UNREACHABLE',
    });
    server.close();
  });
});
