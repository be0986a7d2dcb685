import { existsSync } from 'node:fs';
import { chown, lstat, readdir, realpath } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { run } from '../../base/process/run.ts';
import { hasCode, messageOf } from '../../base/sendense-error.ts';
import type {
  KernelMountRequest,
  KernelMountResult,
  LoopRequest,
  NbdRequest,
  Place,
  PrivilegedWork,
} from '../privileged-work.ts';
import { type HeldBase, holdBase, makePlaceIn, removePlaceIn } from './base-folder.ts';
import { checkedName, openImage, pathOf, refuse } from './checked-path.ts';
import { attachLoop, backingFileOf, detachLoop, isGone, listLoops } from './loop-work.ts';
import { kernelPlanFor } from './mount-options.ts';
import { readMountTable } from './mount-table.ts';
import { connectNbd, disconnectNbd, isNbdOf } from './nbd-work.ts';
import { sweepAll } from './sweep.ts';
import { unmount } from './unmount.ts';

export interface WorkSettings {
  /** File systems are mounted at `<session>/<key>` in it; it belongs to whoever does the work. */
  readonly baseFolder: string;
  /** Disks are shown in `<session>` in it; it belongs to the user. */
  readonly imageFolder: string;
  /** For whom the work is done. */
  readonly uid: number;
  readonly gid: number;
  /** Folders in which a mount may be shown too; null: anywhere, for who has all privileges anyway. */
  readonly exposeFolders: readonly string[] | null;
}

/** The privileged work, done by this very process. */
export function localWork(settings: WorkSettings): PrivilegedWork {
  return new LocalWork(settings);
}

class LocalWork implements PrivilegedWork {
  readonly #settings: WorkSettings;
  /** Loop devices that were made here: one whose storage daemon died no longer shows what it was made of. */
  readonly #loops = new Set<string>();

  constructor(settings: WorkSettings) {
    this.#settings = settings;
  }

  async attachLoop({ session, file, offsetBytes, sizeBytes }: LoopRequest): Promise<string> {
    await using image = await openImage(await this.#images(), session, file);
    const device = await attachLoop(pathOf(image), offsetBytes, sizeBytes);
    this.#loops.add(device);
    return device;
  }

  async detachLoop(device: string, force: boolean): Promise<void> {
    if (!/^\/dev\/loop\d+$/.test(device)) throw refuse(`"${device}" is no loop device`);
    const backing = await backingFileOf(device);
    if (backing === null) return;
    const isKnown = this.#loops.has(device) && isGone(backing);
    if (!isKnown && !(await this.#isOurs(backing))) throw refuse(`${device} belongs to somebody else`);
    await detachLoop(device, force);
    this.#loops.delete(device);
  }

  async connectNbd({ session, socket, exportName }: NbdRequest): Promise<string> {
    const folder = join(await this.#images(), checkedName(session));
    const path = join(folder, checkedName(socket));
    const stats = await lstat(path).catch(() => null);
    if (!stats?.isSocket() || (await realpath(folder)) !== folder) throw refuse(`${path} is no socket`);
    return await connectNbd(path, checkedName(exportName), join(folder, `${exportName}-nbd.log`));
  }

  async disconnectNbd(device: string): Promise<void> {
    if (!/^\/dev\/nbd\d+$/.test(device)) throw refuse(`"${device}" is no nbd device`);
    if (!existsSync(`/sys/block/${device.slice(5)}/pid`)) return;
    if (!(await isNbdOf(device, await this.#images()))) throw refuse(`${device} belongs to somebody else`);
    await disconnectNbd(device);
  }

  async mount({ session, key, device, fsType, replay }: KernelMountRequest): Promise<KernelMountResult> {
    const plan = kernelPlanFor(fsType);
    if (plan === null) return { path: null, refusal: `unknown filesystem type '${fsType}'` };
    const options = replay ? plan.options : plan.withoutReplay;
    if (options === null) return { path: null, refusal: `${fsType} has no journal that could be left out` };
    await this.#checkDevice(device);
    const place = { session, key };
    await using base = await this.#base();
    const path = await makePlaceIn(base, place, this.#settings.gid);
    try {
      // -i: no helper program named after the type is run
      await run('mount', ['-i', '-c', '-n', '-t', plan.driver, '-o', options, device, path]);
      return { path: this.#shownPath(place), refusal: null };
    } catch (error) {
      await removePlaceIn(base, place);
      if (!hasCode(error, 'TOOL_FAILED')) throw error;
      return { path: null, refusal: messageOf(error) };
    }
  }

  async makePlace(place: Place): Promise<string> {
    const { uid, gid } = this.#settings;
    await using base = await this.#base();
    await chown(await makePlaceIn(base, place, gid), uid, gid);
    return this.#shownPath(place);
  }

  async clearPlace(place: Place, force: boolean): Promise<void> {
    await using base = await this.#base();
    const names = [checkedName(place.session), checkedName(place.key)];
    for (let depth = await mountsAt(join(base.realPath, ...names)); depth > 0; depth -= 1)
      await unmount(join(base.path, ...names), force);
    await removePlaceIn(base, place);
  }

  async expose(place: Place, at: string): Promise<void> {
    await using base = await this.#base();
    const path = join(base.path, checkedName(place.session), checkedName(place.key));
    if (!isAbsolute(at)) throw refuse(`"${at}" is not absolute`);
    const real = await realpath(at);
    const { exposeFolders } = this.#settings;
    if (exposeFolders !== null && !exposeFolders.some((folder) => real.startsWith(`${folder}/`)))
      throw refuse(`${real} is not in a folder that was allowed with --expose`);
    if ((await readdir(real)).length > 0) throw refuse(`${real} is not empty`);
    await run('mount', ['-i', '-c', '-n', '--bind', path, real]);
  }

  async unexpose(at: string, force: boolean): Promise<void> {
    const table = await readMountTable();
    await using base = await this.#base();
    const ours = new Set(
      table
        .filter(({ mountPoint }) => mountPoint.startsWith(`${base.realPath}/`))
        .map(({ deviceNumber }) => deviceNumber),
    );
    const top = table.findLast(({ mountPoint }) => mountPoint === at);
    if (top === undefined) return;
    if (!ours.has(top.deviceNumber)) throw refuse(`at ${at} something else is mounted`);
    await unmount(at, force);
  }

  async sweep() {
    return await sweepAll(this.#settings.baseFolder, this.#settings.imageFolder);
  }

  #base(): Promise<HeldBase> {
    return holdBase(this.#settings.baseFolder, this.#settings.gid);
  }

  #images(): Promise<string> {
    return realpath(this.#settings.imageFolder);
  }

  /** As the user knows it. */
  #shownPath({ session, key }: Place): string {
    return join(this.#settings.baseFolder, session, key);
  }

  async #checkDevice(device: string): Promise<void> {
    if (/^\/dev\/loop\d+$/.test(device)) {
      const backing = await backingFileOf(device);
      if (backing !== null && (await this.#isOurs(backing))) return;
    } else if (/^\/dev\/nbd\d+(p\d+)?$/.test(device)) {
      if (await isNbdOf(device.replace(/p\d+$/, ''), await this.#images())) return;
    }
    throw refuse(`${device} is not a device that was made here`);
  }

  /** Devices made of our files, or of a device made of them. */
  async #isOurs(backing: string): Promise<boolean> {
    if (backing.startsWith(`${await this.#images()}/`)) return true;
    if (/^\/dev\/nbd\d+$/.test(backing)) return await isNbdOf(backing, await this.#images());
    // its file has gone with its storage daemon: then it is ours when it is mounted in our folder
    if (!isGone(backing)) return false;
    await using base = await this.#base();
    const devices = (await listLoops()).filter(({ backingFile }) => backingFile === backing);
    const table = await readMountTable();
    return devices.some(({ device }) =>
      table.some(({ mountPoint, source }) => source === device && mountPoint.startsWith(`${base.realPath}/`)),
    );
  }
}

async function mountsAt(path: string): Promise<number> {
  return (await readMountTable()).filter(({ mountPoint }) => mountPoint === path).length;
}
