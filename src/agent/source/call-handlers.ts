import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { parseInput } from '../../base/parse-input.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { inspectDisk } from '../../capture/image/inspect-disk.ts';
import { sourceGraph } from '../../capture/image/source-graph.ts';
import type { LocalSources, MachineRef } from '../../capture/source.ts';
import { type AnswerTo, type Ask, calls, isMethod, type Method } from '../protocol/calls.ts';
import { givenPath } from './given-folders.ts';
import type { Snapshots } from './snapshots.ts';
import type { Transfers } from './transfers.ts';

/** Folders below an allowed one that are looked through for images. */
const MAX_DEPTH = 3;
const MAX_MACHINES = 1_000;

interface HandlerDeps {
  readonly sourceOf: LocalSources;
  readonly snapshots: Snapshots;
  readonly transfers: Transfers;
  readonly allow: () => Promise<readonly string[]>;
  /** Called before a source is used for the first time. */
  readonly ready: () => Promise<void>;
  readonly signal: AbortSignal;
}

type Handlers = { readonly [M in Method]: (ask: Ask<M>) => Promise<AnswerTo<M>> };

/** @returns answers a call; what it throws goes back to the appliance as it is */
export function callHandlers(deps: HandlerDeps): (method: string, body: string) => Promise<object> {
  const { snapshots, transfers, sourceOf, signal } = deps;
  const handlers: Handlers = {
    discover: async ({ kind, place }) => {
      if (kind === 'image') return { machines: await findImages(await deps.allow()) };
      await deps.ready();
      const machines: AnswerTo<'discover'>['machines'] = [];
      for await (const found of sourceOf(kind).discover(place)) {
        if (machines.length >= MAX_MACHINES) break;
        machines.push(mutable(found));
      }
      return { machines };
    },
    inspect: async ({ path, format, allowBacking }) => {
      const real = await givenPath(path, await deps.allow());
      const folders = await Promise.all(allowBacking.map(async (one) => givenPath(one, await deps.allow())));
      const inspected = await inspectDisk(real, format);
      if (inspected.format === 'qcow2') await sourceGraph(real, { allowBacking: folders, forceShare: false });
      const { size, blocks } = await stat(real);
      return {
        path: real,
        format: inspected.format,
        sizeBytes: inspected.sizeBytes,
        allocatedBytes: inspected.isBlockDevice ? null : Math.min(size, blocks * 512),
      };
    },
    describe: async ({ machine }) => {
      await checkGiven(deps, machine);
      await deps.ready();
      return mutable(await sourceOf(machine.source.kind).describe(machine));
    },
    snapshot: async (ask) => {
      await checkGiven(deps, ask.machine);
      await deps.ready();
      return await snapshots.take(ask, signal);
    },
    open: (ask) => snapshots.open(ask),
    reopen: async (ask) => {
      await checkGiven(deps, ask.machine);
      await deps.ready();
      return await snapshots.reopen(ask, signal);
    },
    dispose: async ({ snapshotId }) => {
      await snapshots.dispose(snapshotId);
      return {};
    },
    cleanUp: async ({ machine, leftover }) => {
      await deps.ready();
      await sourceOf(machine.source.kind).cleanUp(machine, leftover);
      return {};
    },
    release: async ({ machine, neededChangeIds }) => {
      await deps.ready();
      await sourceOf(machine.source.kind).release(machine, neededChangeIds);
      return {};
    },
    transfer: async (ask) => {
      transfers.start(ask);
      return {};
    },
    stop: async ({ transferId }) => {
      await transfers.stop(transferId);
      return {};
    },
    limit: async ({ bytesPerSecond }) => {
      transfers.limit(bytesPerSecond);
      return {};
    },
  };
  return async (method, body) => {
    const invalid = (detail: string) => new SendenseError('REQUEST_INVALID', { detail });
    if (!isMethod(method)) throw invalid(`there is no method ${JSON.stringify(method.slice(0, 64))}`);
    let value: unknown;
    try {
      value = JSON.parse(body);
    } catch (error) {
      throw new SendenseError('REQUEST_INVALID', { detail: 'it is no JSON' }, error);
    }
    const ask = parseInput<never>(calls[method].ask as never, value, `the call ${method}`, invalid);
    return await handlers[method](ask);
  };
}

/** Image files must lie in the folders that were allowed; what a hypervisor tells of is given as a whole. */
async function checkGiven(deps: HandlerDeps, machine: MachineRef): Promise<void> {
  if (machine.source.kind !== 'image') return;
  const allow = await deps.allow();
  for (const folder of machine.allowBacking) await givenPath(folder, allow);
  for (const { key: path } of machine.disks) {
    const real = await givenPath(path, allow);
    // a link could lead somewhere else between this look and the reading
    if (real !== path) throw new SendenseError('PATH_NOT_GIVEN', { path });
  }
}

async function findImages(allow: readonly string[]): Promise<AnswerTo<'discover'>['machines']> {
  const machines: AnswerTo<'discover'>['machines'] = [];
  const look = async (folder: string, depth: number): Promise<void> => {
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = join(folder, entry.name);
      if (machines.length >= MAX_MACHINES) return;
      if (entry.isDirectory() && depth < MAX_DEPTH) await look(path, depth + 1);
      if (!entry.isFile() || !/\.(img|raw|qcow2)$/.test(entry.name)) continue;
      const inspected = await inspectDisk(path, null).catch(() => null);
      if (inspected === null) continue;
      const { format, sizeBytes } = inspected;
      machines.push({
        ...{ name: basename(path).replace(/\.\w+$/, ''), source: { kind: 'image' }, isRunning: false },
        ...{ disks: [{ key: path, format, sizeBytes }], leftOut: [] },
      });
    }
  };
  for (const folder of allow) await look(folder, 0);
  return machines;
}

/** Plain data, out of types that nobody may change. */
const mutable = <T>(value: T): never => structuredClone(value) as never;
