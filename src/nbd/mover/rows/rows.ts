import { createReadStream, createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { createZstdCompress, createZstdDecompress } from 'node:zlib';
import { messageOf, SendenseError } from '../../../base/sendense-error.ts';

/** The granularity of rows and of the mover's requests, in bytes. */
export const BLOCK_BYTES = 1024 * 1024;

/** What a guest range contains at a restore point: a BLAKE3 digest in hex, or zeros. */
export type Row = { readonly offset: number; readonly size: number } & (
  | { readonly b3: string; readonly zero?: never }
  | { readonly zero: true; readonly b3?: never }
);

/** Where rows go as soon as what they say is flushed: in order, each once. */
export interface RowSink {
  write(row: Row): Promise<void>;
  /** Everything before this byte is flushed and has all its rows. */
  reached(until: number): Promise<void>;
}

export const rowsFormat = 1;
const header = `{"format":${rowsFormat},"digest":"blake3","blocks":[\n`;
const footer = '\n]}\n';

/**
 * Writes a row file: one JSON document under zstd, a row on each line so that it can be read as a stream.
 * Rows come in ascending order; neighbouring zero rows become one.
 */
export class RowWriter {
  readonly #path: string;
  readonly #compress = createZstdCompress();
  readonly #done: Promise<void>;
  #held: Row | null = null;
  #isFirst = true;

  constructor(path: string) {
    this.#path = path;
    this.#done = pipeline(this.#compress, createWriteStream(path, { mode: 0o640 }));
    this.#done.catch(() => undefined); // reported by close()
    this.#compress.write(header);
  }

  async write(row: Row): Promise<void> {
    const held = this.#held;
    if (held?.zero && row.zero && held.offset + held.size === row.offset) {
      this.#held = { offset: held.offset, size: held.size + row.size, zero: true };
      return;
    }
    this.#held = row;
    if (held) await this.#put(held);
  }

  /** Ends the file and makes it durable. */
  async close(): Promise<void> {
    if (this.#held) await this.#put(this.#held);
    this.#compress.end(footer);
    await this.#done;
    await using handle = await open(this.#path, 'r+');
    await handle.sync();
  }

  /** Gives up; the file stays incomplete. */
  async abandon(): Promise<void> {
    this.#compress.destroy();
    await this.#done.catch(() => undefined);
  }

  async #put(row: Row): Promise<void> {
    const text = (this.#isFirst ? '' : ',\n') + JSON.stringify(row);
    this.#isFirst = false;
    if (!this.#compress.write(text) && !this.#compress.destroyed) {
      await Promise.race([new Promise((resolve) => this.#compress.once('drain', resolve)), this.#done]);
    }
  }
}

/**
 * Streams the rows of a file in order.
 * @throws FORMAT_INVALID when it is no whole row file, FORMAT_TOO_NEW
 */
export async function* readRows(path: string): AsyncGenerator<Row> {
  const invalid = (detail: string, cause?: unknown) =>
    new SendenseError('FORMAT_INVALID', { path, detail }, cause);
  const file = createReadStream(path);
  const text = createZstdDecompress();
  // a read error must end the line reader too
  const piped = pipeline(file, text).catch((error: unknown) =>
    text.destroy(error instanceof Error ? error : undefined),
  );
  let sawHeader = false;
  let sawFooter = false;
  let end = 0;
  try {
    for await (const line of linesOf(text)) {
      if (!sawHeader) {
        checkHeader(line, path);
        sawHeader = true;
      } else if (line === ']}') sawFooter = true;
      else if (line !== '') {
        const row = parseRow(line.endsWith(',') ? line.slice(0, -1) : line);
        if (row.offset < end) throw invalid('the rows are not in order');
        end = row.offset + row.size;
        yield row;
      }
    }
  } catch (error) {
    throw error instanceof SendenseError ? error : invalid(messageOf(error), error);
  } finally {
    file.destroy();
    text.destroy();
    await piped;
  }
  if (!sawFooter) throw invalid('it is cut off');
}

/** By hand and not with a schema: a big disk has millions of rows. */
function parseRow(text: string): Row {
  const { offset, size, b3, zero } = JSON.parse(text) as Record<string, unknown>;
  const isPlace =
    Number.isSafeInteger(offset) && Number.isSafeInteger(size) && Number(offset) >= 0 && Number(size) > 0;
  if (!isPlace) throw new Error('a row without a place');
  const place = { offset: Number(offset), size: Number(size) };
  if (zero === true && b3 === undefined) return { ...place, zero };
  if (zero === undefined && typeof b3 === 'string' && /^[0-9a-f]{64}$/.test(b3)) return { ...place, b3 };
  throw new Error('a row has either a digest or zero');
}

async function* linesOf(stream: Readable): AsyncGenerator<string> {
  // readline swallows errors of its input, so the end is checked by hand
  const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
  const ended = finished(stream, { writable: false });
  ended.catch(() => lines.close());
  yield* lines;
  await ended;
}

function checkHeader(line: string, path: string): void {
  const parsed = JSON.parse(`${line}]}`) as { format?: unknown; digest?: unknown };
  if (typeof parsed.format === 'number' && parsed.format > rowsFormat) {
    throw new SendenseError('FORMAT_TOO_NEW', { path, format: parsed.format, supported: rowsFormat });
  }
  if (parsed.format !== rowsFormat || parsed.digest !== 'blake3') throw new Error('unknown header');
}
