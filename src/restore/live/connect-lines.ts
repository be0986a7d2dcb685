/** Where one disk is served. */
export interface LiveAddress {
  readonly exportName: string;
  readonly writable: boolean;
  /** A unix socket, or an address and port. */
  readonly socketPath: string | null;
  readonly host: string;
  readonly port: number;
  /** Name that goes with the key; null: no TLS. */
  readonly pskIdentity: string | null;
}

/** Commands and configuration that connect to it as they are. */
export interface ConnectLines {
  readonly uri: string;
  readonly qemu: string;
  /** Null where it cannot be done: libvirt and nbd-client know certificates but no keys. */
  readonly libvirt: string | null;
  readonly nbdClient: string | null;
  readonly nbdinfo: string;
  readonly nbdcopy: string;
}

/** The file that the operator makes from the key; every line below expects it there. */
export const KEY_FILE = '/root/sendense-live/keys.psk';

/** How to reach an export, ready to paste. Pure. */
export function connectLines(address: LiveAddress): ConnectLines {
  const { exportName, socketPath, port, pskIdentity } = address;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  const uri =
    socketPath !== null
      ? `nbd+unix:///${exportName}?socket=${encodeURI(socketPath).replaceAll('&', '%26').replaceAll('+', '%2B')}`
      : pskIdentity !== null
        ? `nbds://${pskIdentity}@${host}:${port}/${exportName}?tls-psk-file=${KEY_FILE}`
        : `nbd://${host}:${port}/${exportName}`;
  return {
    uri,
    qemu: qemuLine(address, uri),
    libvirt: pskIdentity === null ? libvirtDisk(address) : null,
    nbdClient:
      pskIdentity !== null
        ? null
        : socketPath === null
          ? `nbd-client ${address.host} ${port} -N ${exportName} /dev/nbd0`
          : `nbd-client -unix ${quoted(socketPath)} -N ${exportName} /dev/nbd0`,
    nbdinfo: `nbdinfo ${quoted(uri)}`,
    nbdcopy: `nbdcopy ${quoted(uri)} ${exportName}.raw`,
  };
}

function qemuLine({ exportName, writable, host, port, pskIdentity }: LiveAddress, uri: string): string {
  const readOnly = writable ? '' : ',readonly=on';
  if (pskIdentity === null)
    return `-drive ${quoted(`file=${uri.replaceAll(',', ',,')},format=raw,if=virtio${readOnly}`)}`;
  const folder = KEY_FILE.slice(0, KEY_FILE.lastIndexOf('/'));
  return (
    `-object tls-creds-psk,id=live0,endpoint=client,dir=${folder},username=${pskIdentity} ` +
    `-drive driver=nbd,server.type=inet,server.host=${host},server.port=${port},export=${exportName},tls-creds=live0,if=virtio${readOnly}`
  );
}

function libvirtDisk({ exportName, writable, socketPath, host, port }: LiveAddress): string {
  const place =
    socketPath === null
      ? `<host name='${host}' port='${port}'/>`
      : `<host transport='unix' socket='${escapeXml(socketPath)}'/>`;
  return (
    `<disk type='network' device='disk'><driver name='qemu' type='raw'/>` +
    `<source protocol='nbd' name='${exportName}'>${place}</source>` +
    `<target dev='vdb' bus='virtio'/>${writable ? '' : '<readonly/>'}</disk>`
  );
}

const escapeXml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll("'", '&apos;');

/** For a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
