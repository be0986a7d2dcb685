import { randomBytes } from 'node:crypto';
import { SendenseError } from '../../base/sendense-error.ts';
import { imageIdentity } from '../../capture/image/image-identity.ts';
import type { LocalSources, MachineRef, ReadableDisk, Snapshot, SnapshotDisk } from '../../capture/source.ts';
import type { SourceSpec } from '../../nbd/mover/read/source-spec.ts';
import type { AnswerTo, Ask } from '../protocol/calls.ts';
import type { Leftovers } from './leftovers.ts';

interface Held {
  readonly snapshot: Snapshot;
  readonly machine: MachineRef;
}

/** A disk that a transfer may read. */
export interface OpenedDisk {
  readonly snapshotId: string;
  readonly key: string;
  readonly spec: SourceSpec;
}

interface SnapshotsDeps {
  readonly sourceOf: LocalSources;
  readonly leftovers: Leftovers;
}

/** The snapshots that this agent holds for its appliance. */
export class Snapshots implements AsyncDisposable {
  readonly #deps: SnapshotsDeps;
  readonly #held = new Map<string, Held>();
  readonly #opened = new Map<string, OpenedDisk>();

  constructor(deps: SnapshotsDeps) {
    this.#deps = deps;
  }

  /** @throws SOURCE_…; asked again with the same id it begins anew */
  async take(
    { snapshotId, machine, since }: Ask<'snapshot'>,
    signal: AbortSignal,
  ): Promise<AnswerTo<'snapshot'>> {
    await this.dispose(snapshotId);
    const { snapshot, warnings } = await this.#take(snapshotId, machine, since, signal);
    return {
      consistency: snapshot.consistency,
      configuration: snapshot.configuration,
      warnings,
      disks: snapshot.disks.map(({ key, sizeBytes, changeId }) => ({ key, sizeBytes, changeId })),
    };
  }

  async #take(
    snapshotId: string,
    machine: MachineRef,
    since: Ask<'snapshot'>['since'],
    signal: AbortSignal,
  ): Promise<{ snapshot: Snapshot; warnings: string[] }> {
    const warnings: string[] = [];
    const snapshot = await this.#deps.sourceOf(machine.source.kind).snapshot(machine, {
      since,
      signal,
      willMake: (leftover) => this.#deps.leftovers.add(snapshotId, machine, leftover),
      warn: (text) => void warnings.push(text.slice(0, 4000)),
    });
    this.#held.set(snapshotId, { snapshot, machine });
    return { snapshot, warnings };
  }

  /** @throws SNAPSHOT_LOST */
  async open({ snapshotId, key, since }: Ask<'open'>): Promise<AnswerTo<'open'>> {
    const held = this.#held.get(snapshotId);
    const disk = held?.snapshot.disks.find((one) => one.key === key);
    if (!held || !disk) throw lost(key, 'the agent holds no such snapshot');
    const spec = since === null ? await disk.open() : await disk.changedSince(since);
    if ('lost' in spec) return { lost: spec.lost };
    return {
      openedId: this.#remember(snapshotId, disk, spec),
      identity: await identityOf(held.machine, key),
    };
  }

  /** An image is its own snapshot: as long as nobody wrote to it, reading can go on. @throws SNAPSHOT_LOST */
  async reopen(
    { snapshotId, machine, key, identity }: Ask<'reopen'>,
    signal: AbortSignal,
  ): Promise<AnswerTo<'reopen'>> {
    const now = await identityOf(machine, key);
    if (now === null || now !== identity) throw lost(key, 'it was written to or replaced meanwhile');
    const held = this.#held.get(snapshotId);
    const snapshot = held?.snapshot ?? (await this.#take(snapshotId, machine, {}, signal)).snapshot;
    const disk = snapshot.disks.find((one) => one.key === key);
    if (!disk) throw lost(key, 'the machine has it no more');
    return { openedId: this.#remember(snapshotId, disk, await disk.open()) };
  }

  /** @throws SNAPSHOT_LOST */
  opened(openedId: string): OpenedDisk {
    const opened = this.#opened.get(openedId);
    if (!opened) throw lost('(any)', 'the agent has not opened it');
    return opened;
  }

  /** Repeating it is fine. */
  async dispose(snapshotId: string): Promise<void> {
    for (const [openedId, opened] of this.#opened)
      if (opened.snapshotId === snapshotId) this.#opened.delete(openedId);
    const held = this.#held.get(snapshotId);
    this.#held.delete(snapshotId);
    await held?.snapshot[Symbol.asyncDispose]();
    await this.#deps.leftovers.forget(snapshotId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const snapshotId of [...this.#held.keys()]) await this.dispose(snapshotId);
  }

  get ids(): string[] {
    return [...this.#held.keys()];
  }

  #remember(snapshotId: string, disk: SnapshotDisk, spec: ReadableDisk): string {
    if (spec.kind === 'agent') throw new SendenseError('INTERNAL', { detail: 'an agent of an agent' });
    const openedId = `open-${randomBytes(6).toString('hex')}`;
    this.#opened.set(openedId, { snapshotId, key: disk.key, spec });
    return openedId;
  }
}

const lost = (path: string, detail: string) => new SendenseError('SNAPSHOT_LOST', { path, detail });

/** Null: whether it is still the same cannot be told. */
async function identityOf(machine: MachineRef, key: string): Promise<string | null> {
  const disk = machine.disks.find((one) => one.key === key);
  if (machine.source.kind !== 'image' || disk === undefined) return null;
  return await imageIdentity({ path: key, format: disk.format }, machine.allowBacking);
}
