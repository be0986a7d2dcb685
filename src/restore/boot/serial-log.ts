/** Kept of the beginning and of the end of what a guest says; what lies between is dropped. */
const HEAD_BYTES = 256 * 1024;
const TAIL_BYTES = 768 * 1024;
/** No line that anybody looks for is longer. */
const MAX_LINE_CHARACTERS = 4096;

// biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are told where to write by these
const ESCAPES = /\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[()][A-Za-z0-9]|[=>78cDEHM])/g;

/** What a guest says on its serial console: a bounded record, and its lines one after another. */
export class SerialLog {
  readonly #onLine: (line: string) => void;
  readonly #head: Buffer[] = [];
  #headBytes = 0;
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #droppedBytes = 0;
  #line = '';
  #lookedAt = '';

  /** @param onLine told each line when it is whole */
  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  get droppedBytes(): number {
    return this.#droppedBytes;
  }

  /** What is kept. */
  content(): Buffer {
    const gap = `\n[${this.#droppedBytes} bytes are left out here]\n`;
    const middle = this.#droppedBytes > 0 ? [Buffer.from(gap)] : [];
    return Buffer.concat([...this.#head, ...middle, ...this.#tail]);
  }

  add(bytes: Buffer): void {
    this.#keep(bytes);
    const [first = '', ...more] = bytes.toString('latin1').split('\n');
    const parts = [this.#line + first, ...more];
    const unfinished = parts.pop() ?? '';
    for (const part of parts) this.#tell(part);
    this.#line = unfinished.slice(-MAX_LINE_CHARACTERS);
  }

  /**
   * A login prompt has no end of line: tells the unfinished line too, when nothing was added to it since the last call.
   * To be called again and again.
   */
  lookAtUnfinished(): void {
    if (this.#line !== '' && this.#line === this.#lookedAt) this.#tell(this.#line);
    this.#lookedAt = this.#line;
  }

  #tell(line: string): void {
    const text = line.slice(-MAX_LINE_CHARACTERS).replace(ESCAPES, '').replaceAll('\r', '').trimEnd();
    if (text !== '') this.#onLine(text);
  }

  #keep(bytes: Buffer): void {
    const taken = Math.min(bytes.length, HEAD_BYTES - this.#headBytes);
    if (taken > 0) this.#head.push(bytes.subarray(0, taken));
    this.#headBytes += taken;
    const rest = bytes.subarray(taken);
    if (rest.length === 0) return;
    this.#tail.push(rest);
    this.#tailBytes += rest.length;
    // in one go, so that a talkative guest is not copied again with each byte
    if (this.#tailBytes <= 2 * TAIL_BYTES) return;
    const all = Buffer.concat(this.#tail);
    this.#tail = [all.subarray(all.length - TAIL_BYTES)];
    this.#droppedBytes += all.length - TAIL_BYTES;
    this.#tailBytes = TAIL_BYTES;
  }
}
