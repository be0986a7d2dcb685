import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostOf } from './host/host.ts';
import { parseLibvirtUri } from './host/libvirt-uri.ts';
import { type Virsh, virshAt } from './host/virsh.ts';

export interface LibvirtSettings {
  /** For sockets and short-lived files of this side. */
  readonly runFolder: string;
  /** On the libvirt host: for its sockets and for what a guest overwrites during a backup. */
  readonly scratchFolder: string;
  /** A backup does not begin with less free space there, and ends when half of it is gone. */
  readonly scratchBytes: number;
}

/** One libvirt, and the machine it runs on. */
export interface LibvirtConnection extends LibvirtSettings {
  readonly virsh: Virsh;
  readonly host: Host;
}

/** @throws LIBVIRT_URI_INVALID */
export async function connectTo(uri: string, settings: LibvirtSettings): Promise<LibvirtConnection> {
  const place = parseLibvirtUri(uri);
  await mkdir(settings.runFolder, { recursive: true, mode: 0o700 });
  return { ...settings, virsh: virshAt(place, settings.runFolder), host: hostOf(place, settings.runFolder) };
}

/** virsh takes XML from files only. */
export async function withXmlFile<T>(
  { runFolder }: LibvirtSettings,
  xml: string,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const path = join(runFolder, `${randomBytes(6).toString('hex')}.xml`);
  try {
    await writeFile(path, xml, { mode: 0o600 });
    return await work(path);
  } finally {
    await rm(path, { force: true });
  }
}
