import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { QmpClient } from '../../qemu/qmp-client.ts';
import type { Screenshot } from './boot-request.ts';
import { isBlank, isSamePicture, type Picture, readPpm, toPng } from './picture.ts';

/** Pictures that are kept besides the last one, and how far they lie apart at least. */
const MAX_KEPT = 7;
const KEEP_APART_MS = 5_000;

/** Looks at what a machine shows, again and again, and keeps the pictures that say something new. */
export class ScreenWatch {
  readonly #qmp: QmpClient;
  readonly #folder: string;
  readonly #dump: string;
  readonly #kept: Screenshot[] = [];
  #current: { readonly picture: Picture; readonly sinceMs: number } | null = null;
  #lastKept: Picture | null = null;
  #hasHandedOver = false;
  #firmware: Picture | null = null;

  /** @param folder gets `screen-N.png` */
  constructor(qmp: QmpClient, folder: string, scratch: string) {
    this.#qmp = qmp;
    this.#folder = folder;
    this.#dump = join(scratch, 'screen.ppm');
  }

  get screens(): readonly Screenshot[] {
    return this.#kept;
  }

  /** @param nowMs since the machine was started */
  async look(nowMs: number): Promise<void> {
    const handedOver = this.#hasHandedOver;
    const picture = await this.#take();
    if (picture === null) return;
    if (handedOver) this.#firmware ??= picture;
    if (this.#current === null || !isSamePicture(this.#current.picture, picture))
      this.#current = { picture, sinceMs: nowMs };
    const last = this.#kept.at(-1);
    const isDue = last === undefined || nowMs - last.afterMs >= KEEP_APART_MS;
    if (isDue && this.#kept.length < MAX_KEPT && !isBlank(picture)) await this.#keep(picture, nowMs);
  }

  /**
   * The firmware starts what is on a disk: what is shown then is its own picture and says nothing of the guest.
   * @returns true the first time: a look is due at once, for a guest may draw its only picture a second later
   */
  handOver(): boolean {
    const isNews = !this.#hasHandedOver;
    this.#hasHandedOver = true;
    return isNews;
  }

  /** How long a picture of the guest has been there that is not blank; 0 without one. */
  stableMs(nowMs: number): number {
    if (this.#current === null || this.#firmware === null) return 0;
    const { picture } = this.#current;
    if (isBlank(picture) || isSamePicture(picture, this.#firmware)) return 0;
    return nowMs - this.#current.sinceMs;
  }

  /** The last picture, whatever it shows. */
  async finish(nowMs: number): Promise<void> {
    const picture = await this.#take().catch(() => null);
    if (picture !== null) await this.#keep(picture, nowMs);
  }

  async #keep(picture: Picture, nowMs: number): Promise<void> {
    if (this.#lastKept !== null && isSamePicture(this.#lastKept, picture)) return;
    const file = `screen-${this.#kept.length + 1}.png`;
    await writeFile(join(this.#folder, file), toPng(picture));
    this.#lastKept = picture;
    this.#kept.push({ file, afterMs: nowMs });
  }

  async #take(): Promise<Picture | null> {
    await this.#qmp.execute('screendump', { filename: this.#dump });
    const picture = readPpm(await readFile(this.#dump));
    await rm(this.#dump, { force: true });
    return picture;
  }
}
