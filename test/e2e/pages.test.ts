import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { errorCodes } from '../../src/base/error-codes.ts';
import { createProgram } from '../../src/cli/program.ts';

const pages = ['README.md', ...globSync('docs/*.md')];
const read = (page: string) => readFileSync(page, 'utf8');

/** As the anchors of headings are made by those who show Markdown. */
const anchorsOf = (page: string) =>
  [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );

it('troubleshooting names codes that there are', () => {
  // in the first column each word in capitals is a code, or shown by a command
  const shown = new Set(['SENDENSE_HOME', 'DAMAGED']);
  const first = [...read('docs/troubleshooting.md').matchAll(/^\| ([^|]+) \|/gm)].map(
    ([, cell = '']) => cell,
  );
  const named = first.flatMap((cell) => [...cell.matchAll(/`([A-Z][A-Z_]+)`/g)].map(([, code = '']) => code));
  expect(named.length).toBeGreaterThan(50);
  expect(named.filter((code) => !Object.hasOwn(errorCodes, code) && !shown.has(code))).toEqual([]);
});

it.each(pages)('%s: links lead somewhere', (page) => {
  const broken = [...read(page).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)].filter(
    ([, file = '', anchor]) => {
      const target = file === '' ? page : join(dirname(page), file);
      if (!existsSync(target)) return true;
      return anchor !== undefined && !anchorsOf(target).includes(anchor);
    },
  );
  expect(broken.map(([link]) => link)).toEqual([]);
});

it.each(pages.filter((page) => !/benchmarks|errors/.test(page)))(
  '%s: commands and their options are there',
  (page) => {
    const wrong = [...read(page).matchAll(/sendense-ctl ([a-z][^`\n|]*)/g)].flatMap(([line, words = '']) => {
      let command = createProgram('');
      const globals = command.options.map(({ long }) => long);
      for (const word of words.split(/[\s;]+/)) {
        const next = command.commands.find((child) => child.name() === word);
        if (next === undefined) break;
        command = next;
      }
      // commander has no other word for it: a mere group does nothing by itself
      const isGroup = Reflect.get(command, '_actionHandler') === null;
      const known = [...command.options.map(({ long }) => long), ...globals, '--help'];
      // what stands behind another program, a substitution or a comment is not ours
      const ours = words.split(/ [|>#;&]|\$\(|\)|, /)[0] ?? '';
      const flags = [...ours.matchAll(/(?:^|\s)(--[a-z][a-z0-9-]*)/g)].map(([, flag]) => flag);
      return isGroup || flags.some((flag) => !known.includes(flag)) ? [line] : [];
    });
    expect(wrong).toEqual([]);
  },
);
