import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import { removeDurably, writeJsonDurably } from '../../base/durable-file.ts';
import { parseInput } from '../../base/parse-input.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import {
  type Policy,
  type PolicyKind,
  policyDocument,
  policyKinds,
  scheduleOf,
} from '../../policy/definition/policy.ts';

/** A policy, and since when each of its schedules holds. */
export interface KeptPolicy {
  readonly policy: Policy;
  /** UTC; what was due before is not caught up. */
  readonly since: Readonly<Record<PolicyKind, string>>;
}

const storedPolicy = z.strictObject({
  format: z.literal(1),
  policy: policyDocument,
  since: z.record(z.enum(policyKinds), z.iso.datetime()),
});

/**
 * All policies of an appliance. Each is a file of its own, the files are the truth and the catalogue has none of it: a
 * lost catalogue loses no policy, and they can be kept under version control.
 */
export class PolicyBook {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #kept = new Map<string, KeptPolicy>();
  /** Files that cannot be read, with the reason: what they promise is not done. */
  readonly broken: { readonly file: string; readonly detail: string }[] = [];

  constructor(folder: string, clock: Clock) {
    this.#folder = folder;
    this.#clock = clock;
    mkdirSync(folder, { recursive: true, mode: 0o750 });
    for (const file of readdirSync(folder).filter((name) => name.endsWith('.json'))) this.#read(file);
  }

  #read(file: string): void {
    try {
      const kept = parseInput(
        storedPolicy,
        JSON.parse(readFileSync(join(this.#folder, file), 'utf8')),
        'the file',
        (detail) => new SendenseError('POLICY_INVALID', { detail }),
      );
      if (`${kept.policy.name}.json` !== file)
        throw new SendenseError('POLICY_INVALID', { detail: `it names the policy "${kept.policy.name}"` });
      this.#kept.set(kept.policy.name, kept);
    } catch (error) {
      this.broken.push({ file: join(this.#folder, file), detail: messageOf(error) });
    }
  }

  /** By name. */
  all(): KeptPolicy[] {
    return [...this.#kept.values()].toSorted((a, b) => (a.policy.name < b.policy.name ? -1 : 1));
  }

  /** @throws POLICY_UNKNOWN */
  byName(name: string): KeptPolicy {
    const kept = this.#kept.get(name);
    if (!kept) throw new SendenseError('POLICY_UNKNOWN', { policy: name });
    return kept;
  }

  has(name: string): boolean {
    return this.#kept.has(name);
  }

  /** Writes it down; when it returns, it survives a power cut. A schedule that changed holds from now on. */
  async save(policy: Policy): Promise<KeptPolicy> {
    const before = this.#kept.get(policy.name);
    const now = this.#clock.now().toISOString();
    const sinceOf = (kind: PolicyKind): string =>
      before !== undefined && timingText(before.policy, kind) === timingText(policy, kind)
        ? before.since[kind]
        : now;
    const since = Object.fromEntries(policyKinds.map((kind) => [kind, sinceOf(kind)])) as KeptPolicy['since'];
    const kept: KeptPolicy = { policy, since };
    await writeJsonDurably(this.#fileOf(policy.name), { format: 1, ...kept });
    this.#kept.set(policy.name, kept);
    return kept;
  }

  /** @throws POLICY_UNKNOWN */
  async remove(name: string): Promise<void> {
    this.byName(name);
    await removeDurably(this.#fileOf(name));
    this.#kept.delete(name);
  }

  #fileOf(name: string): string {
    return join(this.#folder, `${name}.json`);
  }
}

/** What decides when a kind of work is due and whether we start it. */
const timingText = (policy: Policy, kind: PolicyKind): string =>
  [scheduleOf(policy, kind), policy.time_zone, policy.runner].join(' ');
