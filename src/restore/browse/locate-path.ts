import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import type { OpenMount } from '../mount/mount-request.ts';
import type { MountedFilesystem } from '../mount/mounted-filesystem.ts';
import type { GuestNode } from './guest-node.ts';
import {
  displayPath,
  type GuestPath,
  isDotDot,
  joinGuestPath,
  pathUnknown,
  splitGuestPath,
} from './guest-path.ts';
import { type ResolveOptions, resolveInGuest } from './guest-root.ts';

/** What browsing needs of an open mount. */
export type BrowsableMount = Pick<OpenMount, 'mountId' | 'filesystems'>;

type Mounted = MountedFilesystem & { readonly mountPath: string; readonly deviceNumber: number };

export type LocatedPath =
  /** The folder above several file systems, which exists only in our answers. */
  | { readonly kind: 'keys'; readonly filesystems: readonly Mounted[] }
  /** The caller closes the node. */
  | { readonly kind: 'node'; readonly filesystem: Mounted; readonly node: GuestNode };

/**
 * Finds what a path of the REST interface means. With one file system mounted, `/` is its root. With several,
 * `/<key>/…` names one of them, and any other path means the one that has it.
 * @throws PATH_UNKNOWN, PATH_AMBIGUOUS, PATH_INVALID, MOUNT_FAILED
 */
export async function locatePath(
  mount: BrowsableMount,
  path: GuestPath,
  options?: ResolveOptions,
): Promise<LocatedPath> {
  // `..` at the very top stays there, in the folder of keys too
  const components = splitGuestPath(path);
  while (components[0] && isDotDot(components[0])) components.shift();
  const mounted = mount.filesystems.filter(isMounted);
  const [first, ...others] = mounted;
  if (!first) throw pathUnknown(path);
  if (others.length === 0) return await inside(first, path, options);
  const [key, ...rest] = components;
  if (!key) return { kind: 'keys', filesystems: mounted };
  const named = mounted.find((filesystem) => key.equals(Buffer.from(filesystem.key)));
  if (named) return await inside(named, joinGuestPath(rest), options, path);
  return await search(mounted, path, options);
}

async function search(
  mounted: readonly Mounted[],
  path: GuestPath,
  options?: ResolveOptions,
): Promise<LocatedPath> {
  const results = await Promise.allSettled(mounted.map((filesystem) => inside(filesystem, path, options)));
  const hits = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const trouble = results.find(
    (result) => result.status === 'rejected' && !hasCode(result.reason, 'PATH_UNKNOWN'),
  );
  const [hit, ...others] = hits;
  // a file system that cannot be read might have had it too: then nothing is certain
  if (hit && others.length === 0 && !trouble) return hit;
  for (const each of hits) await each.node.close();
  if (others.length > 0) throw ambiguous(path, hits);
  if (trouble?.status === 'rejected') throw trouble.reason;
  throw pathUnknown(path);
}

async function inside(
  filesystem: Mounted,
  path: GuestPath,
  options?: ResolveOptions,
  asked: GuestPath = path,
) {
  try {
    const node = await resolveInGuest(filesystem.mountPath, filesystem.deviceNumber, path, options);
    return { kind: 'node', filesystem, node } as const;
  } catch (error) {
    // the caller knows the path with the key in front
    if (error instanceof SendenseError && 'path' in error.fields) {
      throw new SendenseError(error.code, { ...error.fields, path: displayPath(asked) }, error);
    }
    throw error;
  }
}

function ambiguous(path: GuestPath, hits: readonly { readonly filesystem: Mounted }[]): SendenseError {
  const candidates = hits.map(({ filesystem }) => `/${filesystem.key}${displayPath(path)}`);
  return new SendenseError('PATH_AMBIGUOUS', {
    path: displayPath(path),
    candidates,
    example: candidates[0] ?? '',
  });
}

function isMounted(filesystem: MountedFilesystem): filesystem is Mounted {
  return filesystem.mountPath !== null && filesystem.deviceNumber !== null;
}
