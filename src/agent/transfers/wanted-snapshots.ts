/** Snapshots that agents hold for this appliance. One that is not among them ends when its agent connects again. */
export class WantedSnapshots {
  /** Id → the agent that holds it. */
  readonly #ids = new Map<string, string>();
  #isKeeping = false;

  add(snapshotId: string, agentId: string): void {
    this.#ids.set(snapshotId, agentId);
  }

  /** @returns true when it shall be ended now; false: the next daemon goes on with it */
  remove(snapshotId: string): boolean {
    if (this.#isKeeping) return false;
    this.#ids.delete(snapshotId);
    return true;
  }

  /** The daemon ends: nothing is given back any more. */
  keepAll(): void {
    this.#isKeeping = true;
  }

  of(agentId: string): string[] {
    return [...this.#ids].filter(([, holder]) => holder === agentId).map(([id]) => id);
  }
}
