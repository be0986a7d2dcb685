import { join } from 'node:path';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import { imageSource } from '../../capture/image/image-source.ts';
import type { LibvirtSettings } from '../../capture/libvirt/connection.ts';
import type { LocalSources, Source } from '../../capture/source.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';

interface SourceWiring {
  readonly daemon: StorageDaemon;
  readonly libvirt: Source;
}

/** One source for each kind of machine. */
export function wireSources({ daemon, libvirt }: SourceWiring): LocalSources {
  const sources = { image: imageSource({ daemon }), libvirt };
  return (kind) => sources[kind];
}

export const libvirtSettings = (paths: HomePaths, { libvirt }: Config): LibvirtSettings => ({
  runFolder: join(paths.runFolder, 'virt'),
  scratchFolder: libvirt.scratch_folder,
  scratchBytes: libvirt.scratch_mib * 1024 ** 2,
});
