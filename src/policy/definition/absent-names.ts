import type { Policy } from './policy.ts';

/** Something that a policy names and that is not there. */
export interface AbsentName {
  readonly what: 'machine' | 'repository' | 'mirror';
  readonly name: string;
}

/** Names of all that is there. */
export interface KnownNames {
  readonly machines: ReadonlySet<string>;
  readonly repositories: ReadonlySet<string>;
  readonly mirrors: ReadonlySet<string>;
}

/**
 * What a policy names and nobody has. A machine may be registered later, so that is no more than a warning, but a
 * misspelt name looks just the same; a pattern or a label that means nobody yet is what they are for. Pure.
 */
export function absentNames(policy: Policy, known: KnownNames): AbsentName[] {
  const of = (what: AbsentName['what'], names: readonly string[], there: ReadonlySet<string>) =>
    [...new Set(names)].filter((name) => !there.has(name)).map((name): AbsentName => ({ what, name }));
  return [
    ...of('repository', [policy.repository], known.repositories),
    ...of('mirror', policy.mirrors, known.mirrors),
    ...of('machine', policy.machines.names, known.machines),
  ];
}
