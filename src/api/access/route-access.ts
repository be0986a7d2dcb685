import type { Role } from '../../catalog/tokens.ts';

/** Each may what those before it may. */
export const roles = ['viewer', 'restore', 'operator', 'admin'] as const satisfies readonly Role[];

export const isAtLeast = (role: Role, needed: Role): boolean => roles.indexOf(role) >= roles.indexOf(needed);

/** Fields of a request (path, query or body) that name what a request is about. */
export type SubjectField = 'vm_name' | 'backup_id' | 'mount_id' | 'live_id' | 'job_id';

/**
 * Which machines a route is about:
 * `none`: no machine, and nothing that a token for some machines should not know.
 * `appliance`: the appliance or all machines; not for tokens that are for some machines only.
 * `listed`: its handler shows only what the caller may see.
 * Fields: the machine of each of them that is given must be the caller's; when none is given it is as `appliance`.
 */
export type About = 'none' | 'appliance' | 'listed' | readonly SubjectField[];

/** Who may use a route. */
export interface RouteAccess {
  readonly role: Role;
  readonly about: About;
}
