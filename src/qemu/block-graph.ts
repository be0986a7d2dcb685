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
  /** Absent only for an image that is known to have none. */
  readonly backing?: ImageNode | null;
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
 * The graph that reads one restore point.
 * @param chain absolute paths, newest layer first, the full last
 */
export function readOnlyChain(chain: readonly string[]): Qcow2Node | null {
  let node: Qcow2Node | null = null;
  for (const filename of chain.toReversed()) {
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
