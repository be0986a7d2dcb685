import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../../base/clock.ts';
import { messageOf, SendenseError } from '../../../base/sendense-error.ts';
import type { Catalog } from '../../../catalog/catalog.ts';
import { settleMachine } from '../../../repository/layers/settle-machine.ts';
import type { CarryOutDeps } from '../../../repository/merge/carry-out-merge.ts';
import { confirmRepository, type Repository } from '../../../repository/open-repository.ts';
import { machineFolders, readMachine } from '../../../repository/read-repository.ts';
import { chainResource, type ResourceLocks } from '../../resource-locks.ts';
import { adoptMachine, forgetEntombed, isMachineKnown } from './adopt-machine.ts';

export interface ScanDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly locks: ResourceLocks;
  /** For what a crash left in the middle of a rewriting. */
  readonly settling: CarryOutDeps;
}

export interface ScanOrder {
  readonly repository: Repository;
  /** Whether what the catalogue has of this machine can only be behind by whole backups. */
  readonly isTrusted: (contextId: string) => boolean;
  /** False: nothing is settled. */
  readonly isWritable: boolean;
  readonly signal: AbortSignal;
}

/** A machine whose files somebody still uses is looked at again after this time. */
const RETRY_MS = 1_000;
/** So many ids are told in one event. */
const MAX_TOLD = 100;

/**
 * Begins to look through a repository, machine by machine: ends what was interrupted, and takes into the catalogue what
 * it does not know. Until its machine was looked at, nobody else gets at a chain; who waits for one comes next.
 * @returns once all chains are held; `finished` never fails
 */
export async function beginScan(
  deps: ScanDeps,
  order: ScanOrder,
): Promise<{ readonly finished: Promise<void> }> {
  const scan = new Scan(deps, order);
  await scan.hold();
  return { finished: scan.run() };
}

class Scan {
  readonly #deps: ScanDeps;
  readonly #order: ScanOrder;
  /** Machine folder → gives its chain back; null when it is not held. */
  readonly #waiting = new Map<string, (() => void) | null>();
  readonly #urgent: string[] = [];
  readonly #adopted: string[] = [];
  #unreadable = 0;
  #using = () => {};

  constructor(deps: ScanDeps, order: ScanOrder) {
    this.#deps = deps;
    this.#order = order;
  }

  async hold(): Promise<void> {
    const { repository } = this.#order;
    this.#using = this.#deps.locks.acquire(`the look through ${repository.name}`, [
      {
        resource: `repository:${repository.id}`,
        exclusive: false,
        busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: repository.name, holder }),
      },
    ]);
    for (const vmUuid of await machineFolders(repository.root))
      this.#waiting.set(vmUuid, this.#tryHold(vmUuid));
  }

  #tryHold(vmUuid: string): (() => void) | null {
    const vm = this.#deps.catalog.vms.byUuid(vmUuid);
    if (!vm) return () => undefined; // nobody can ask for it yet
    const { repository } = this.#order;
    const resource = chainResource(repository.id, vm.contextId);
    const busy = (holder: string) => new SendenseError('CHAIN_BUSY', { vm: vm.name, holder });
    try {
      return this.#deps.locks.acquire(
        `the look through ${repository.name}`,
        [{ resource, exclusive: true, busy }],
        () => {
          if (!this.#urgent.includes(vmUuid)) this.#urgent.push(vmUuid);
        },
      );
    } catch (error) {
      // somebody read there when it went away, and still does
      if (error instanceof SendenseError) return null;
      throw error;
    }
  }

  async run(): Promise<void> {
    const { repository, signal } = this.#order;
    try {
      for (let vmUuid = this.#next(); vmUuid !== null && !signal.aborted; vmUuid = this.#next()) {
        const release = this.#waiting.get(vmUuid) ?? this.#tryHold(vmUuid);
        this.#waiting.delete(vmUuid);
        if (release === null) {
          this.#waiting.set(vmUuid, null);
          await sleep(RETRY_MS, undefined, { ref: false, signal }).catch(() => undefined);
          continue;
        }
        try {
          await this.#lookAt(vmUuid);
        } finally {
          release();
        }
      }
    } catch (error) {
      this.#tell(
        'repository.unsettled',
        'error',
        `${repository.name} was not looked through: ${messageOf(error)}`,
        {
          path: repository.root,
        },
      );
    } finally {
      for (const release of this.#waiting.values()) release?.();
      this.#waiting.clear();
      this.#using();
    }
    this.#tellAdopted();
  }

  #next(): string | null {
    for (let vmUuid = this.#urgent.shift(); vmUuid !== undefined; vmUuid = this.#urgent.shift())
      if (this.#waiting.has(vmUuid)) return vmUuid;
    // held ones first: the others would make them wait
    for (const [vmUuid, release] of this.#waiting) if (release !== null) return vmUuid;
    return this.#waiting.keys().next().value ?? null;
  }

  async #lookAt(vmUuid: string): Promise<void> {
    const { catalog } = this.#deps;
    const { repository, isTrusted, isWritable } = this.#order;
    const vm = catalog.vms.byUuid(vmUuid);
    let isChanged = false;
    await forgetEntombed(this.#deps, repository, vmUuid);
    try {
      if (isWritable) isChanged = await settleMachine(repository.root, vmUuid, this.#deps.settling);
    } catch (error) {
      isChanged = true;
      await confirmRepository(repository);
      const what = `The machine folder ${vmUuid} could not be cleaned up after an interruption: ${messageOf(error)}`;
      this.#tell('repository.unsettled', 'error', what, { path: repository.root, vm_uuid: vmUuid });
    }
    const isQuick = !isChanged && vm !== null && isTrusted(vm.contextId);
    if (isQuick && (await isMachineKnown(this.#deps, repository, vmUuid))) return;
    // an empty folder below an absent mount would say that everything is gone
    await confirmRepository(repository);
    const { content, unreadable } = await readMachine(repository.root, vmUuid);
    await confirmRepository(repository);
    const { adopted } = content ? await adoptMachine(this.#deps, repository, content) : { adopted: [] };
    for (const id of adopted) this.#adopted.push(id);
    await confirmRepository(repository);
    for (const { path, error } of unreadable) {
      this.#unreadable += 1;
      if (this.#unreadable <= MAX_TOLD) this.#tell('repository.unreadable', 'error', error.message, { path });
    }
  }

  #tellAdopted(): void {
    const count = this.#adopted.length;
    if (count === 0) return;
    const what = `${count} backups were found in the repository that the catalogue did not know.`;
    this.#tell('repository.adopted', 'warning', what, { count, backups: this.#adopted.slice(0, MAX_TOLD) });
  }

  #tell(kind: string, severity: 'warning' | 'error', message: string, data: Record<string, unknown>): void {
    const subject = this.#order.repository.name;
    this.#deps.catalog.events.add({ kind, severity, subject, message, data });
  }
}
