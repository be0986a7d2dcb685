import type { Vm } from '../catalog/vms.ts';

/** The labels after a change; null takes one away, others stay. */
export function withLabels(
  labels: Vm['labels'],
  change: Readonly<Record<string, string | null>>,
): Readonly<Record<string, string>> {
  const merged = Object.entries({ ...labels, ...change });
  return Object.fromEntries(merged.filter((entry): entry is [string, string] => entry[1] !== null));
}
