import type { Actor } from '../../base/actor.ts';
import type { AccessToken, Role } from '../../catalog/tokens.ts';

/** Labels of a machine, by which tokens may be for it. */
export type LabelsOf = (vmName: string) => Readonly<Record<string, string>>;

/** Who makes a request, and what he may see. */
export interface Caller extends Actor {
  /** For things that are kept apart between callers. */
  readonly id: string;
  readonly role: Role;
  /** Null: it came over the unix socket. */
  readonly token: AccessToken | null;
  /** True: only some machines exist for it. */
  readonly isScoped: boolean;
  /** @param vmName null: about no machine */
  sees(vmName: string | null): boolean;
  /** @throws OUTPUT_NOT_ALLOWED unless it may have the appliance write there, or show something there */
  confirmPlace(path: string | null | undefined): Promise<void>;
}

/** Whether a token is for this machine. Pure. */
export function isFor(token: AccessToken, vmName: string, labelsOf: LabelsOf): boolean {
  if (token.vms.includes(vmName)) return true;
  if (token.labels.length === 0) return token.vms.length === 0;
  const labels = labelsOf(vmName);
  return token.labels.every(([name, value]) => Object.hasOwn(labels, name) && labels[name] === value);
}

export const isScopedToken = (token: AccessToken): boolean => token.vms.length > 0 || token.labels.length > 0;
