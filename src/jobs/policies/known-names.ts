import type { Catalog } from '../../catalog/catalog.ts';
import type { Vm } from '../../catalog/vms.ts';
import type { KnownNames } from '../../policy/definition/absent-names.ts';

/** Everything that a policy may name. @param machines every machine, when the caller has them already */
export const knownNames = (
  { vms, repositories, mirrors }: Catalog,
  machines: readonly Vm[] = vms.all(),
): KnownNames => ({
  // one of which only backups are left is backed up by nobody
  machines: new Set(machines.flatMap(({ name, registered }) => (registered ? [name] : []))),
  repositories: new Set(repositories.all().map(({ name }) => name)),
  mirrors: new Set(mirrors.all().map(({ name }) => name)),
});
