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
  readonly backing: ImageNode | null;
}

export interface RawNode {
  readonly driver: 'raw';
  readonly 'node-name'?: string;
  readonly 'read-only': boolean;
  readonly 'force-share'?: boolean;
  readonly offset?: number;
  readonly size?: number;
  /** A file, an image of which this is a part, or the name of a node that exists already. */
  readonly file: FileNode | Qcow2Node | RawNode | NbdNode | string;
}

export interface FileNode {
  readonly driver: 'file' | 'host_device';
  readonly filename: string;
  readonly 'read-only'?: boolean;
  readonly discard?: 'unmap';
  readonly 'force-share'?: boolean;
}

/** What another server shows. */
export interface NbdNode {
  readonly driver: 'nbd';
  readonly 'read-only': boolean;
  readonly server: { readonly type: 'unix'; readonly path: string };
  readonly export: string;
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
