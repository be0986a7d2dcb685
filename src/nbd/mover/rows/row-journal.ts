import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { errnoOf, SendenseError } from '../../../base/sendense-error.ts';
import type { RowBatch } from './row-batches.ts';
import { BLOCK_BYTES, type Row, RowWriter } from './rows.ts';

const entry = z.object({
  until: z.number().int().min(0),
  rows: z.array(
    z.union([
      z.object({ offset: z.number().int(), size: z.number().int(), b3: z.string() }),
      z.object({ offset: z.number().int(), size: z.number().int(), zero: z.literal(true) }),
    ]),
  ),
});

/** What must hold of the rows of a layer. */
export interface RowRules {
  readonly sizeBytes: number;
  /** In a full every byte has a row. */
  readonly isFull: boolean;
  /** What is thrown for rows that cannot be. The detail begins with "its rows" or the like. */
  readonly invalid: (detail: string) => SendenseError;
}

/**
 * The rows that a mover told, on disk before it hears that they are safe: a line for each stretch of the disk that is
 * flushed. From the last whole line on a transfer can go on, whoever was restarted.
 */
export class RowJournal implements AsyncDisposable {
  readonly #handle: FileHandle;
  readonly #path: string;
  readonly #rules: RowRules;
  #until: number;
  /** Length of its whole lines. */
  #goodBytes: number;

  private constructor(handle: FileHandle, path: string, rules: RowRules, until: number, goodBytes: number) {
    this.#handle = handle;
    this.#path = path;
    this.#rules = rules;
    this.#until = until;
    this.#goodBytes = goodBytes;
  }

  /** Goes on with what is there; a line that was cut off is dropped. */
  static async open(path: string, rules: RowRules): Promise<RowJournal> {
    const handle = await open(path, 'a+', 0o640);
    let until = 0;
    let goodBytes = 0;
    for await (const { text, endBytes } of linesOf(handle)) {
      const parsed = parseLine(text);
      if (parsed === null) break;
      until = parsed.until;
      goodBytes = endBytes;
    }
    await handle.truncate(goodBytes);
    return new RowJournal(handle, path, rules, until, goodBytes);
  }

  /** Everything before this byte is flushed and has its rows. */
  get until(): number {
    return this.#until;
  }

  /** @throws what the rules say for what cannot be; nothing of the stretch is kept then */
  async append(batch: RowBatch): Promise<void> {
    // sent twice around a lost connection
    if (batch.until <= this.#until) return;
    this.#check(batch);
    const line = Buffer.from(`${JSON.stringify({ until: batch.until, rows: batch.rows })}\n`);
    try {
      await this.#handle.appendFile(line);
      await this.#handle.datasync();
    } catch (error) {
      // a part of a line would spoil what comes after it
      await this.#handle.truncate(this.#goodBytes).catch(() => undefined);
      if (errnoOf(error) !== 'ENOSPC') throw error;
      throw new SendenseError('DISK_FULL', { path: this.#path }, error);
    }
    this.#goodBytes += line.length;
    this.#until = batch.until;
  }

  #check({ from, until, rows }: RowBatch): void {
    const { invalid, sizeBytes, isFull } = this.#rules;
    if (from !== this.#until) throw invalid(`its rows go on at byte ${from} instead of ${this.#until}`);
    if (until > sizeBytes) throw invalid(`its rows reach to byte ${until} of a disk of ${sizeBytes}`);
    let end = from;
    for (const { offset, size, zero } of rows) {
      if (offset < end || (isFull && offset !== end))
        throw invalid(`its rows leave out or repeat byte ${end}`);
      if (!zero && size > BLOCK_BYTES) throw invalid(`a row of it has ${size} bytes`);
      end = offset + size;
    }
    if (end > until || (isFull && end !== until))
      throw invalid(`its rows end at byte ${end} instead of ${until}`);
  }

  /** Writes the row file of the whole disk. @throws what the rules say when rows are missing */
  async writeRows(path: string): Promise<void> {
    const { invalid, sizeBytes } = this.#rules;
    if (this.#until !== sizeBytes) throw invalid(`it was done at byte ${this.#until} of ${sizeBytes}`);
    const writer = new RowWriter(path);
    try {
      for await (const row of this.rows()) await writer.write(row);
      await writer.close();
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  }

  async *rows(): AsyncGenerator<Row> {
    await using handle = await open(this.#path, 'r');
    for await (const { text } of linesOf(handle)) yield* parseLine(text)?.rows ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

function parseLine(text: string): z.infer<typeof entry> | null {
  try {
    return entry.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Whole lines, each with the byte at which the next one begins. */
async function* linesOf(handle: FileHandle): AsyncGenerator<{ text: string; endBytes: number }> {
  let rest = Buffer.alloc(0);
  let position = 0;
  let endBytes = 0;
  for (;;) {
    const chunk = Buffer.alloc(256 * 1024);
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    rest = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
    for (let cut = rest.indexOf(10); cut >= 0; cut = rest.indexOf(10)) {
      endBytes += cut + 1;
      yield { text: rest.toString('utf8', 0, cut), endBytes };
      rest = rest.subarray(cut + 1);
    }
  }
}
