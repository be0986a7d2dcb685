/**
 * A long way between two ends: TCP connections that come in at one address go out to another, later, not faster than
 * the link, and now and then with a pause as after a lost packet. For kernels without netem. A process of its own, so
 * that it takes nothing from who is measured in the parent.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export interface LinkPlan {
  readonly from: string;
  readonly to: string;
  readonly ports: readonly number[];
  /** One way. */
  readonly delayMs: number;
  /** Of each direction, shared by all connections; null: as fast as it goes. */
  readonly mibPerSecond: number | null;
  /** Each so many MiB of a connection it stands still for two round trips; null: nothing is lost. */
  readonly lossEveryMib: number | null;
}

/** What may be on its way at once on one connection: more than any window that the kernels open here. */
const IN_FLIGHT_BYTES = 24 * 1024 * 1024;
const MIB = 1024 * 1024;

/** When the link is free again. */
class Lane {
  #freeAtMs = 0;

  /** @returns how long until these bytes have gone out */
  take(bytes: number, mibPerSecond: number | null): number {
    if (mibPerSecond === null) return 0;
    const now = performance.now();
    this.#freeAtMs = Math.max(this.#freeAtMs, now) + (bytes / MIB / mibPerSecond) * 1000;
    return this.#freeAtMs - now;
  }
}

function pump(from: Socket, to: Socket, lane: Lane, plan: LinkPlan): void {
  let inFlight = 0;
  let sinceLoss = 0;
  let stallMs = 0;
  let last: Promise<void> = Promise.resolve();
  from.on('data', (chunk: Buffer) => {
    inFlight += chunk.length;
    sinceLoss += chunk.length;
    if (plan.lossEveryMib !== null && sinceLoss >= plan.lossEveryMib * MIB) {
      sinceLoss = 0;
      stallMs = plan.delayMs * 4;
    }
    const dueMs = performance.now() + lane.take(chunk.length, plan.mibPerSecond) + plan.delayMs + stallMs;
    stallMs = 0;
    last = last.then(async () => {
      const waitMs = dueMs - performance.now();
      if (waitMs > 1) await sleep(waitMs);
      to.write(chunk);
      inFlight -= chunk.length;
      if (from.isPaused() && inFlight < IN_FLIGHT_BYTES / 2) from.resume();
    });
    if (inFlight >= IN_FLIGHT_BYTES) from.pause();
  });
  from.on('end', () => void last.then(() => sleep(plan.delayMs)).then(() => to.end()));
  from.on('error', () => to.destroy());
  from.on('close', () => void last.then(() => to.destroySoon()));
}

function serve(plan: LinkPlan): void {
  const [there, back] = [new Lane(), new Lane()];
  let waiting = plan.ports.length;
  for (const port of plan.ports)
    createServer((near) => {
      const far = connect({ host: plan.to, port, noDelay: true });
      near.setNoDelay(true);
      pump(near, far, there, plan);
      pump(far, near, back, plan);
    }).listen({ host: plan.from, port }, () => {
      waiting -= 1;
      if (waiting === 0) process.stdout.write('ready\n');
    });
  process.stdin.on('end', () => process.exit(0)).resume();
}

/** Starts a link; it ends with this process at the latest. */
export async function startLink(plan: LinkPlan): Promise<{ stop: () => Promise<void> }> {
  const child: ChildProcess = spawn(
    process.execPath,
    [fileURLToPath(import.meta.url), JSON.stringify(plan)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('exit', () => reject(new Error('the link did not start')));
  });
  return {
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) serve(JSON.parse(process.argv[2] ?? '') as LinkPlan);
