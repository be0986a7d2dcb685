import { dirname, join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import { connectTo, type LibvirtConnection, type LibvirtSettings } from '../../capture/libvirt/connection.ts';
import { parseLibvirtUri } from '../../capture/libvirt/host/libvirt-uri.ts';
import { readDomain } from '../../capture/libvirt/xml/domain-xml.ts';
import type { MachineConfiguration } from '../../capture/source.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { findManifest } from '../../repository/publish-backup.ts';
import { checkFilesAreFree, checkNameIsFree, checkPlatform } from '../../restore/libvirt/libvirt-target.ts';
import { restoredDomain } from '../../restore/libvirt/restored-domain.ts';
import type { LiveDeps } from './open-live-export.ts';
import type { RestoreDeps } from './restore-deps.ts';

export interface LibvirtRestoreDeps extends RestoreDeps, Pick<LiveDeps, 'lives'> {
  readonly libvirtSettings: LibvirtSettings;
}

export interface LibvirtRestoreOrder {
  readonly backup: string;
  /** Null: where the machine was backed up. */
  readonly uri: string | null;
  /** Null: the old name with `-restored`. */
  readonly name: string | null;
  /** Of the libvirt host, for the new images; null: where the first disk was. */
  readonly folder: string | null;
  readonly network: 'none' | 'same';
  readonly keepIdentity: boolean;
  readonly start: boolean;
  /** Started at once on the backup itself, and copied behind. */
  readonly instant: boolean;
}

/** Everything that is decided before the job begins. */
export interface LibvirtPlan {
  readonly connection: LibvirtConnection;
  readonly isRemote: boolean;
  readonly name: string;
  readonly uuid: string;
  readonly xml: string;
  readonly folder: string;
  readonly disks: readonly { readonly diskIndex: number; readonly target: string; readonly path: string }[];
  readonly nvram: { readonly path: string; readonly saved: string } | null;
  readonly notes: readonly string[];
}

/** Decides everything and looks whether it can be done; changes nothing. */
export async function planRestore(
  deps: LibvirtRestoreDeps,
  order: LibvirtRestoreOrder,
  backup: Backup,
): Promise<LibvirtPlan> {
  const configuration = await configurationOf(deps, backup);
  const saved = configuration.domain_xml;
  const vm = deps.catalog.vms.byContext(backup.contextId);
  const uri = order.uri ?? (vm?.source.kind === 'libvirt' ? vm.source.uri : 'qemu:///system');
  const isRemote = parseLibvirtUri(uri).ssh !== null;
  if (order.instant && isRemote)
    throw new SendenseError('INSTANT_IMPOSSIBLE', { detail: `the libvirt at ${uri} is another machine` });
  const connection = await connectTo(uri, deps.libvirtSettings);
  const old = readDomain(saved);
  const name = order.name ?? `${old.name}-restored`;
  await checkPlatform(connection, saved);
  await checkNameIsFree(connection, name);
  const folder = order.folder ?? folderOf(old.disks.find(({ path }) => path !== null)?.path ?? null);
  const disks = backup.disks.map(({ diskIndex, diskKey }) => ({
    diskIndex,
    target: diskKey,
    path: join(folder, `${name}-${diskKey}.qcow2`),
  }));
  const nvram =
    configuration.nvram_zst === null
      ? null
      : { path: join(folder, `${name}_VARS.fd`), saved: configuration.nvram_zst };
  await checkFilesAreFree(connection, [
    ...disks.map(({ path }) => path),
    ...(nvram === null ? [] : [nvram.path]),
  ]);
  const { network, keepIdentity } = order;
  const restored = restoredDomain(saved, {
    ...{ name, network, keepIdentity, disks },
    nvramPath: nvram?.path ?? null,
  });
  return { connection, isRemote, name, folder, disks, nvram, ...restored };
}

/** @throws NO_CONFIGURATION */
async function configurationOf(deps: LibvirtRestoreDeps, backup: Backup): Promise<MachineConfiguration> {
  const vm = deps.catalog.vms.byContext(backup.contextId);
  const { root } = deps.repositories.byId(backup.repositoryId);
  const manifest = vm === null ? null : await findManifest(root, vm.vmUuid, backup.id);
  if (manifest?.configuration === undefined)
    throw new SendenseError('NO_CONFIGURATION', { backup: backup.id });
  return manifest.configuration;
}

function folderOf(path: string | null): string {
  if (path === null)
    throw new SendenseError('OUTPUT_INVALID', {
      path: '(none)',
      detail: 'the old disks were no files; say with --output in which folder the new ones shall be',
    });
  return path.startsWith('/dev/') ? '/var/lib/libvirt/images' : dirname(path);
}
