import { stringify } from 'yaml';

export type Format = 'table' | 'json' | 'yaml' | 'name';

/** Answers go to stdout, everything else to stderr. */
export const say = (text: string) => process.stderr.write(`${text}\n`);

export interface Column<T> {
  readonly title: string;
  readonly value: (row: T) => string;
}

/** Prints one answer in the format that was asked for. */
export function print<T>(
  format: Format,
  document: unknown,
  rows: readonly T[],
  columns: readonly Column<T>[],
  name: (row: T) => string,
): void {
  const write = (text: string) => process.stdout.write(`${text}\n`);
  if (format === 'json') write(JSON.stringify(document, null, 2));
  else if (format === 'yaml') write(stringify(document).trimEnd());
  else if (format === 'name') for (const row of rows) write(name(row));
  else if (rows.length === 0) say('(none)');
  else {
    const cells = [
      columns.map((column) => column.title),
      ...rows.map((row) => columns.map((column) => printable(column.value(row)))),
    ];
    const widths = columns.map((_, index) =>
      // there may be more rows than a call takes arguments
      cells.reduce((widest, line) => Math.max(widest, line[index]?.length ?? 0), 0),
    );
    for (const line of cells)
      write(
        line
          .map((cell, index) => cell.padEnd(widths[index] ?? 0))
          .join('  ')
          .trimEnd(),
      );
  }
}

/** The end of a command that changes something: a sentence for people, a document for programs. */
export function printDone(format: Format, document: unknown, name: string, sentence: string): void {
  if (format !== 'table') print(format, document, [name], [], (row) => row);
  say(sentence);
}

/** A name out of a guest must not move the operator's cursor. */
export const printable = (text: string): string =>
  [...text]
    .map((character) => (character < ' ' || (character >= '\x7f' && character < '\xa0') ? '?' : character))
    .join('');
