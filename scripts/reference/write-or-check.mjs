import { readFileSync, writeFileSync } from 'node:fs';

/** Writes a generated page into docs/; with --check only says whether it is up to date, by the exit code as well. */
export function writeOrCheck(name, text, generator) {
  const target = new URL(`../../docs/${name}`, import.meta.url);
  if (!process.argv.includes('--check')) return writeFileSync(target, text);
  let current = '';
  try {
    current = readFileSync(target, 'utf8');
  } catch {
    // reported below
  }
  if (current !== text) {
    console.error(`docs/${name} is not up to date: run ./scripts/build && node ${generator}`);
    process.exitCode = 1;
  }
}

/** A text for a cell of a table; what looks like HTML is shown as it is. */
export const cell = (text) =>
  String(text).replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('\n', ' ');

/** A table, or nothing when it has no rows. Columns that say nothing in any row are left out. */
export function table(titles, rows) {
  const kept = titles.map((_, index) => rows.some((row) => row[index] !== ''));
  const line = (cells) => `| ${cells.filter((_, index) => kept[index]).join(' | ')} |`;
  return rows.length === 0 ? '' : `${[line(titles), line(titles.map(() => '---')), ...rows.map(line)].join('\n')}\n\n`;
}
