import { constants } from 'node:fs';
import { open, readlink } from 'node:fs/promises';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import { GuestNode } from './guest-node.ts';
import {
  displayPath,
  type GuestPath,
  isAbsoluteTarget,
  isDotDot,
  pathInvalid,
  pathUnknown,
  splitComponents,
  splitGuestPath,
} from './guest-path.ts';
import { mountIdOf } from './mount-id.ts';

/** open(2): names an object without opening it, so that a FIFO does not block and a device is not touched. */
const O_PATH = 0o10000000;
/** As path_resolution(7). */
const MAX_LINKS = 40;
/** Each level holds a descriptor while a path is walked. */
const MAX_DEPTH = 512;

export interface ResolveOptions {
  /** False: a symlink at the very end is returned itself. */
  readonly followLast: boolean;
}

/**
 * Finds what a path means inside a mounted file system as if that were the whole world: openat2(2) with
 * RESOLVE_IN_ROOT and RESOLVE_NO_XDEV, which Node does not have. Each component is opened below the descriptor
 * of the one before and never followed by the kernel, so there is no moment at which a link could lead out.
 * The caller closes what it gets.
 * @param root folder where the file system is mounted
 * @param deviceNumber `st_dev` of what must be mounted there
 * @throws PATH_UNKNOWN, PATH_INVALID, MOUNT_FAILED when the disk below cannot be read
 */
export async function resolveInGuest(
  root: string,
  deviceNumber: number,
  path: GuestPath,
  options: ResolveOptions = { followLast: true },
): Promise<GuestNode> {
  const walk = new GuestWalk(BigInt(deviceNumber), path);
  try {
    await walk.enterRoot(root);
    await walk.go(splitGuestPath(path), options);
    return await walk.finish();
  } catch (error) {
    throw asPathError(error, path);
  } finally {
    await walk.close();
  }
}

/**
 * Opens what a folder of the guest holds under a name, without following it: for walks from a node that is known to be
 * inside. The caller closes it.
 * @returns null when something of another file system is mounted there
 * @throws errno errors of the kernel
 */
export async function openChild(folder: GuestNode, name: Buffer): Promise<GuestNode | null> {
  const handle = await open(folder.child(name), O_PATH | constants.O_NOFOLLOW);
  try {
    const stat = await handle.stat({ bigint: true });
    const isInside =
      stat.dev === folder.stat.dev || (await mountIdOf(handle.fd)) === (await mountIdOf(folder.fd));
    if (isInside) return new GuestNode(handle, stat, name);
    await handle.close();
    return null;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** One way down from the root. Holds a descriptor per level, so that `..` needs no name. */
class GuestWalk {
  readonly #device: bigint;
  readonly #asked: GuestPath;
  /** The root first, where we are last. */
  #levels: GuestNode[] = [];

  constructor(device: bigint, asked: GuestPath) {
    this.#device = device;
    this.#asked = asked;
  }

  async enterRoot(root: string): Promise<void> {
    await this.#enter(root, null, constants.O_DIRECTORY);
  }

  async go(path: readonly Buffer[], options: ResolveOptions): Promise<void> {
    // last component first, so that taking one and putting a link's target in front are both cheap
    const ahead = path.toReversed();
    let links = 0;
    for (let name = ahead.pop(); name; name = ahead.pop()) {
      if (isDotDot(name)) {
        // the kernel would say ENOTDIR; what a symlink means is known by now
        if (!this.#here().stat.isDirectory()) throw pathUnknown(this.#asked);
        await this.#leave();
        continue;
      }
      const parent = this.#here();
      const node = await this.#enter(parent.child(name), name, 0);
      if (!node.stat.isSymbolicLink()) continue;
      const target = await readlink(parent.child(name), { encoding: 'buffer' });
      if (ahead.length === 0 && !options.followLast) {
        node.target = target;
        continue;
      }
      links += 1;
      if (links > MAX_LINKS) throw pathInvalid(this.#asked, 'too many symbolic links');
      await this.#leave();
      if (isAbsoluteTarget(target)) while (this.#levels.length > 1) await this.#leave();
      ahead.push(...splitComponents(target, this.#asked).toReversed());
    }
  }

  /** Hands the place over to the caller. */
  async finish(): Promise<GuestNode> {
    const node = this.#here();
    this.#levels.pop();
    return node;
  }

  async close(): Promise<void> {
    for (const level of this.#levels) await level.close();
    this.#levels = [];
  }

  #here(): GuestNode {
    const here = this.#levels.at(-1);
    if (!here) throw new SendenseError('INTERNAL', { detail: 'a walk without a root' });
    return here;
  }

  async #enter(path: string | Buffer, name: Buffer | null, flags: number): Promise<GuestNode> {
    if (this.#levels.length > MAX_DEPTH)
      throw pathInvalid(this.#asked, `it is deeper than ${MAX_DEPTH} levels`);
    const handle = await open(path, O_PATH | constants.O_NOFOLLOW | flags);
    try {
      const stat = await handle.stat({ bigint: true });
      // also when the mount itself has gone and the empty folder below it shows
      const isInside = stat.dev === this.#device || (await this.#isSubvolume(handle.fd));
      if (!isInside) throw pathInvalid(this.#asked, 'it leaves the file system');
      const node = new GuestNode(handle, stat, name);
      this.#levels.push(node);
      return node;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Never at the root: that is where the mount itself may have gone. */
  async #isSubvolume(fd: number): Promise<boolean> {
    const root = this.#levels[0];
    return root !== undefined && (await mountIdOf(fd)) === (await mountIdOf(root.fd));
  }

  /** At the root, `..` is the root. */
  async #leave(): Promise<void> {
    if (this.#levels.length > 1) await this.#levels.pop()?.close();
  }
}

/** Says in our codes what the kernel says about a path in a guest. */
export function asPathError(error: unknown, path: GuestPath): unknown {
  const errno = errnoOf(error);
  if (errno === null) return error;
  if (errno === 'ENOENT' || errno === 'ENOTDIR') return pathUnknown(path);
  if (errno === 'ENAMETOOLONG') return pathInvalid(path, 'it is too long');
  return new SendenseError(
    'MOUNT_FAILED',
    { detail: `reading "${displayPath(path)}" failed with ${errno}` },
    error,
  );
}
