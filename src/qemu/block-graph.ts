/**
 * A QEMU block graph written out in full. No image is ever opened by letting QEMU follow a name in a header:
 * every backing file is a node here, or null.
 */
export interface Qcow2Node {
  readonly driver: 'qcow2';
  readonly 'node-name'?: string;
  readonly 'read-only': boolean;
  readonly discard?: 'unmap';
  readonly 'detect-zeroes'?: 'unmap';
  readonly 'force-share'?: boolean;
  readonly cache?: { readonly 'no-flush': boolean };
  readonly file: FileNode;
  /** Absent only for an image that is known to have none; a string names a node that is open already. */
  readonly backing?: ImageNode | string | null;
}

export interface RawNode {
  readonly driver: 'raw';
  readonly 'node-name'?: string;
  readonly 'read-only': boolean;
  readonly 'force-share'?: boolean;
  readonly offset?: number;
  readonly size?: number;
  /** A file, a server, a format whose guest bytes are cut out, or the name of a node that exists already. */
  readonly file: FileNode | NbdNode | Qcow2Node | RawNode | string;
}

/** An export of somebody else's NBD server. */
export interface NbdNode {
  readonly driver: 'nbd';
  readonly 'read-only'?: boolean;
  readonly server:
    | { readonly type: 'inet'; readonly host: string; readonly port: string }
    | { readonly type: 'unix'; readonly path: string };
  readonly export: string;
}

export interface FileNode {
  readonly driver: 'file' | 'host_device';
  readonly filename: string;
  readonly 'read-only'?: boolean;
  readonly discard?: 'unmap';
  readonly 'force-share'?: boolean;
}

export type ImageNode = Qcow2Node | RawNode;

/**
 * A disk that one of our own programs serves on a unix socket, to stand in a chain where a path would stand.
 * No path begins like this.
 */
export const nbdImage = (socketPath: string, exportName: string, sizeBytes: number): string =>
  `sendense-nbd:${JSON.stringify([socketPath, exportName, sizeBytes])}`;

/** @returns null for a path */
export function parseNbdImage(
  image: string,
): { readonly socketPath: string; readonly exportName: string; readonly sizeBytes: number } | null {
  if (!image.startsWith('sendense-nbd:')) return null;
  const [socketPath, exportName, sizeBytes] = JSON.parse(image.slice(image.indexOf(':') + 1)) as [
    string,
    string,
    number,
  ];
  return { socketPath, exportName, sizeBytes };
}

/**
 * The graph that reads one restore point.
 * @param chain absolute paths, newest layer first, the full last; or one disk that is served, see `nbdImage`
 */
export function readOnlyChain(chain: readonly string[]): ImageNode | null {
  let node: ImageNode | null = null;
  for (const filename of chain.toReversed()) {
    const served = parseNbdImage(filename);
    if (served) {
      node = {
        driver: 'raw',
        'read-only': true,
        file: {
          driver: 'nbd',
          'read-only': true,
          server: { type: 'unix', path: served.socketPath },
          export: served.exportName,
        },
      };
      continue;
    }
    node = {
      driver: 'qcow2',
      'read-only': true,
      file: { driver: 'file', filename, 'read-only': true },
      backing: node,
    };
  }
  return node;
}

/** A writable layer above a read-only chain; zeros written to it become zero clusters, not data. */
export function writableLayer(path: string, parents: readonly string[]): Qcow2Node {
  return {
    driver: 'qcow2',
    'read-only': false,
    discard: 'unmap',
    'detect-zeroes': 'unmap',
    file: { driver: 'file', filename: path, discard: 'unmap' },
    backing: readOnlyChain(parents),
  };
}

/** One layer alone, its backing cut off: for `check` and `map` of just this file. */
export function loneLayer(path: string): Qcow2Node {
  return {
    driver: 'qcow2',
    'read-only': true,
    file: { driver: 'file', filename: path, 'read-only': true },
    backing: null,
  };
}

/** The files that a graph reads, newest layer first. */
export function filesOf(node: ImageNode): string[] {
  const files: string[] = [];
  for (let at: Qcow2Node['backing'] = node; at && typeof at !== 'string'; ) {
    const { file }: ImageNode = at;
    if (typeof file !== 'string' && 'filename' in file) files.push(file.filename);
    at = at.driver === 'qcow2' ? at.backing : null;
  }
  return files;
}

/** The graph as a file name that qemu-img takes. */
export function asFilename(node: ImageNode): string {
  return `json:${JSON.stringify(node)}`;
}

/** The graph as QEMU's `key.key=value,…`, for options that take no JSON. Commas inside values are doubled. */
export function asOptions(node: ImageNode): string {
  const pairs = (value: object, prefix: string): string[] =>
    Object.entries(value).flatMap(([key, inner]) =>
      typeof inner === 'object' && inner !== null
        ? pairs(inner, `${prefix}${key}.`)
        : [`${prefix}${key}=${optionText(inner)}`],
    );
  return pairs(node, '').join(',');
}

const optionText = (value: unknown): string =>
  typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value).replaceAll(',', ',,');
