/**
 * What an agent's bytes take: each data way with both backends in CPU time and rate, and `tls` over a long way against
 * a bare TCP stream over the same way. See docs/benchmarks.md; never part of a test.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, TestAgent } from '../test/support/agent.ts';
import { TestAppliance } from '../test/support/appliance.ts';
import { startLink } from '../test/support/far-link.ts';
import { sh } from '../test/support/guest-disk.ts';
import { ask } from '../test/support/in-process-rest.ts';

const MIB = 1024 * 1024;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 3);
const nearMib = Number(process.env['BENCH_MIB'] ?? 1024);
const farMib = Number(process.env['BENCH_FAR_MIB'] ?? 512);
/** Slower than any processor here, so that the way is measured and not the machine. */
const LINK_MIB_PER_S = Number(process.env['BENCH_LINK_MIB_PER_S'] ?? 40);
const DELAY_MS = 40;
const FAR = '127.0.0.2';
const work = mkdtempSync(join(process.env['BENCH_FOLDER'] ?? tmpdir(), 'sd-bench-agent-'));
const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

interface Site {
  readonly appliance: TestAppliance;
  readonly agent: TestAgent;
  readonly dataPorts: readonly number[];
  readonly port: number;
  stop(): Promise<void>;
}

/** An appliance and its agent, which finds it at another address of this host. */
async function site(backend: string, address: string, far: boolean): Promise<Site> {
  const [port, sshPort, firstData] = [await freePort(), await freePort(), await freePort()];
  const dataPorts = Array.from({ length: 4 }, (_, index) => firstData + index);
  const appliance = new TestAppliance(join(work, `h-${backend}-${port}`));
  mkdirSync(appliance.home, { recursive: true });
  await appliance.start([
    `exports.backend=${backend}`,
    `agents.listen=127.0.0.1:${port}`,
    `agents.ssh_listen=127.0.0.1:${sshPort}`,
    `agents.data_ports=${firstData}-${firstData + 3}`,
  ]);
  const link = far
    ? await startLink({
        ...{ from: FAR, to: '127.0.0.1', ports: [port, sshPort, ...dataPorts], delayMs: DELAY_MS },
        ...{ mibPerSecond: LINK_MIB_PER_S, lossEveryMib: null },
      })
    : null;
  const agent = new TestAgent(appliance, 'bench');
  agent.enroll(`${address}:${port}`, [work]);
  await agent.start();
  return {
    ...{ appliance, agent, dataPorts, port },
    stop: async () => {
      await agent.dispose();
      await appliance.dispose();
      await link?.stop();
    },
  };
}

/** Jiffies of all processes of this machine but idle and waiting. */
function busySeconds(): number {
  const all = cpus().map(({ times }) => times.user + times.sys + times.nice + times.irq);
  return all.reduce((sum, value) => sum + value, 0) / 1000;
}

function backUp(appliance: TestAppliance, way: string, mib: number): Promise<Sample> {
  appliance.json('agent', 'set', 'bench', '--data-way', way);
  return measure(appliance, `m${mib}`, mib);
}

interface Sample {
  /** Of the whole job, MiB/s. */
  readonly rate: number;
  /** Of the transfer alone: from the opening of the export to the last flush. */
  readonly transferRate: number;
  readonly cpu: number;
}

async function measure(appliance: TestAppliance, vm: string, mib: number): Promise<Sample> {
  interface Shown {
    readonly status: string;
    readonly phase: string | null;
  }
  const [before, start] = [busySeconds(), performance.now()];
  const { job_id } = appliance.json<{ job_id: string }>('backup', 'start', '--vm', vm, '--type', 'full');
  const socket = join(appliance.home, 'run', 'sendensed.sock');
  let [from, until] = [0, 0];
  for (;;) {
    const job = await ask<Shown>(socket, 'GET', `/jobs/${job_id}`);
    const now = performance.now();
    if (job.phase === 'transferring' && from === 0) from = now;
    if (job.phase !== 'transferring' && from !== 0 && until === 0) until = now;
    if (job.status === 'failed') throw new Error(`the backup of ${vm} failed`);
    if (job.status === 'completed') break;
    await sleep(20);
  }
  return {
    rate: mib / ((performance.now() - start) / 1000),
    transferRate: mib / ((until - from) / 1000),
    cpu: busySeconds() - before,
  };
}

/** A bare stream over the same link, in the same direction. */
async function bareStream(port: number, mib: number): Promise<number> {
  const link = await startLink({
    ...{ from: FAR, to: '127.0.0.1', ports: [port], delayMs: DELAY_MS },
    ...{ mibPerSecond: LINK_MIB_PER_S, lossEveryMib: null },
  });
  const server = createServer((socket) => {
    let got = 0;
    socket.on('data', (chunk) => {
      got += chunk.length;
      if (got === mib * MIB) socket.end('x');
    });
  });
  await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port }, resolve));
  const start = performance.now();
  const socket = connect({ host: FAR, port });
  const block = Buffer.alloc(MIB, 7);
  for (let left = mib; left > 0; left -= 1)
    if (!socket.write(block)) await new Promise((resolve) => socket.once('drain', resolve));
  await new Promise((resolve) => socket.once('data', resolve));
  const rate = mib / ((performance.now() - start) / 1000);
  socket.destroy();
  server.close();
  await link.stop();
  return rate;
}

const disk = (mib: number) => join(work, `m${mib}.img`);
for (const mib of new Set([nearMib, farMib]))
  sh('dd', 'if=/dev/urandom', `of=${disk(mib)}`, 'bs=1M', `count=${mib}`, 'status=none');

const show = (name: string, samples: readonly Sample[], mib: number) =>
  console.log(
    `| ${name} | ${median(samples.map(({ rate }) => rate)).toFixed(0)} | ${((median(samples.map(({ cpu }) => cpu)) / mib) * 1024).toFixed(2)} |`,
  );

try {
  console.log(`\n${nearMib} MiB, all on one machine, median of ${rounds}\n`);
  console.log('| way | MiB/s, whole job | CPU s/GiB, whole machine |\n| --- | --- | --- |');
  for (const backend of ['storage-daemon', 'nbd-server']) {
    const near = await site(backend, '127.0.0.1', false);
    near.appliance.json('vm', 'add', `m${nearMib}`, '--agent', 'bench', '--disk', disk(nearMib));
    near.appliance.json('vm', 'add', 'here', '--disk', disk(nearMib));
    const local: Sample[] = [];
    for (let round = 0; round < rounds; round += 1)
      local.push(await measure(near.appliance, 'here', nearMib));
    show(`${backend}: no agent`, local, nearMib);
    for (const way of ['local', 'tls', 'ssh']) {
      const samples: Sample[] = [];
      for (let round = 0; round < rounds; round += 1)
        samples.push(await backUp(near.appliance, way, nearMib));
      show(`${backend}: ${way}`, samples, nearMib);
    }
    await near.stop();
  }

  console.log(
    `\n${farMib} MiB over ${2 * DELAY_MS} ms round trip, a link of ${LINK_MIB_PER_S} MiB/s, median of ${rounds}\n`,
  );
  const bare: number[] = [];
  for (let round = 0; round < rounds; round += 1) bare.push(await bareStream(await freePort(), farMib));
  console.log('| way | MiB/s, transfer | of the bare stream | MiB/s, whole job |\n| --- | --- | --- | --- |');
  console.log(`| bare TCP, one stream | ${median(bare).toFixed(1)} | 100 % | |`);
  for (const backend of ['storage-daemon', 'nbd-server']) {
    const far = await site(backend, FAR, true);
    far.appliance.json('vm', 'add', `m${farMib}`, '--agent', 'bench', '--disk', disk(farMib));
    for (const way of ['tls', 'ssh']) {
      const samples: Sample[] = [];
      for (let round = 0; round < rounds; round += 1) samples.push(await backUp(far.appliance, way, farMib));
      const rate = median(samples.map(({ transferRate }) => transferRate));
      const whole = median(samples.map((sample) => sample.rate));
      const share = ((rate / median(bare)) * 100).toFixed(0);
      console.log(`| ${backend}: ${way} | ${rate.toFixed(1)} | ${share} % | ${whole.toFixed(1)} |`);
    }
    await far.stop();
  }
} finally {
  spawnSync('sync');
  rmSync(work, { recursive: true, force: true });
}
