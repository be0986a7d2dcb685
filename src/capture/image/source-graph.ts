import { realpath } from 'node:fs/promises';
import { dirname, resolve, sep } from 'node:path';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { ImageNode } from '../../qemu/block-graph.ts';
import { headerObjection, readQcow2Header } from '../../qemu/qcow2-header.ts';

/** More than any honest chain of a running machine; ends a loop. */
const MAX_BACKING_DEPTH = 64;

interface GraphOptions {
  /** Folders in which backing files may lie. */
  readonly allowBacking: readonly string[];
  /** Read although another program holds the image open for writing; only when that program is frozen. */
  readonly forceShare: boolean;
}

/**
 * The block graph of a source qcow2. A header can name any file of this host (`/etc/shadow`, `json:`, `nbd://`),
 * so every name is checked and the graph is written out; QEMU follows nothing.
 * @throws SOURCE_HEADER_REFUSED
 */
export async function sourceGraph(path: string, options: GraphOptions): Promise<ImageNode> {
  const allowed = await Promise.all(
    options.allowBacking.map((folder) => realpath(folder).catch(() => resolve(folder))),
  );
  return await qcow2Node(path, allowed, options.forceShare, 0);
}

async function qcow2Node(
  path: string,
  allowed: readonly string[],
  forceShare: boolean,
  depth: number,
): Promise<ImageNode> {
  const refuse = (detail: string, cause?: unknown) =>
    new SendenseError('SOURCE_HEADER_REFUSED', { path, detail }, cause);
  if (depth > MAX_BACKING_DEPTH) throw refuse('its backing files have no end');
  const header = await readQcow2Header(path).catch((error: unknown) => {
    throw refuse(messageOf(error), error);
  });
  if (header === null) throw refuse('it has no qcow2 header');
  const objection = headerObjection(header);
  if (objection !== null) throw refuse(objection);
  let backing: ImageNode | null = null;
  if (header.backingFile !== null) {
    const target = await allowedBacking(path, header.backingFile, allowed, refuse);
    if (header.backingFormat === 'qcow2') backing = await qcow2Node(target, allowed, forceShare, depth + 1);
    else if (header.backingFormat === 'raw') backing = rawNode(target, forceShare);
    else
      throw refuse(
        `its backing file has the format ${JSON.stringify(header.backingFormat)}, only raw and qcow2 are read`,
      );
  }
  return {
    driver: 'qcow2',
    'read-only': true,
    'force-share': forceShare,
    file: fileNode(path, forceShare),
    backing,
  };
}

async function allowedBacking(
  path: string,
  name: string,
  allowed: readonly string[],
  refuse: (detail: string, cause?: unknown) => SendenseError,
): Promise<string> {
  // what QEMU would take for a protocol is never a file
  if (/^[a-z0-9+_-]+:/i.test(name))
    throw refuse(`its backing file ${JSON.stringify(name)} is no plain file name`);
  if (allowed.length === 0)
    throw refuse(
      `it has the backing file ${JSON.stringify(name)}, and no folder for backing files is allowed`,
    );
  const target = await realpath(resolve(dirname(path), name)).catch((error: unknown) => {
    throw refuse(`its backing file ${JSON.stringify(name)} cannot be found`, error);
  });
  if (!allowed.some((folder) => target.startsWith(folder.endsWith(sep) ? folder : folder + sep))) {
    throw refuse(`its backing file ${target} lies outside the allowed folders`);
  }
  return target;
}

const fileNode = (filename: string, forceShare: boolean) =>
  ({ driver: 'file', filename, 'read-only': true, 'force-share': forceShare }) as const;

const rawNode = (path: string, forceShare: boolean): ImageNode => ({
  driver: 'raw',
  'read-only': true,
  'force-share': forceShare,
  file: fileNode(path, forceShare),
});
