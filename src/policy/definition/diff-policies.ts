import type { Policy } from './policy.ts';

export interface FieldChange {
  readonly field: string;
  readonly from: unknown;
  readonly to: unknown;
}

/** What applying a file would do with one policy. */
export interface PolicyChange {
  readonly name: string;
  /** `extra`: it is not in the file, and stays since nobody asked to prune. */
  readonly change: 'add' | 'change' | 'remove' | 'same' | 'extra';
  readonly fields: readonly FieldChange[];
}

/**
 * From what there is to what the file wishes, by name. Pure.
 * @param prune policies that the file does not name are removed
 */
export function diffPolicies(
  current: readonly Policy[],
  wanted: readonly Policy[],
  prune: boolean,
): PolicyChange[] {
  const known = new Map(current.map((policy) => [policy.name, policy]));
  const named = new Set(wanted.map(({ name }) => name));
  const changes = wanted.map((policy): PolicyChange => {
    const before = known.get(policy.name);
    if (before === undefined) return { name: policy.name, change: 'add', fields: fieldsOf({}, policy) };
    const fields = fieldsOf(before, policy);
    return { name: policy.name, change: fields.length === 0 ? 'same' : 'change', fields };
  });
  const others = current
    .filter(({ name }) => !named.has(name))
    .map(({ name }): PolicyChange => ({ name, change: prune ? 'remove' : 'extra', fields: [] }));
  return [...changes, ...others].toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** Down to the leaves of objects; lists are compared as a whole. */
function fieldsOf(before: unknown, after: unknown, path = ''): FieldChange[] {
  if (isObject(before) && isObject(after)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].toSorted();
    return keys.flatMap((key) => fieldsOf(before[key], after[key], path === '' ? key : `${path}.${key}`));
  }
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  return [{ field: path, from: before ?? null, to: after ?? null }];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);
