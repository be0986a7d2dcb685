import type { Command } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { previewBytes } from '../choices.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type Column, print, printable, say } from '../output.ts';

interface FileView {
  readonly name: string;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  readonly mtime: string;
  readonly target?: string;
}
interface FoundView extends FileView {
  readonly path: string;
}
interface SearchAnswer {
  readonly files: readonly FoundView[];
  readonly skipped: number;
  readonly skipped_examples: readonly string[];
  readonly next_cursor: string | null;
}
interface StatView extends FileView {
  readonly path: string;
  readonly allocated_bytes: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly media_type: string | null;
  readonly xattrs: readonly string[] | null;
  readonly preview: { encoding: string; content: string; truncated: boolean } | null;
}

const time = (text: string) => text.slice(0, 19).replace('T', ' ');
const withTarget = (name: string, target: string | null | undefined) =>
  target === undefined || target === null ? name : `${name} -> ${target}`;
const octal = (mode: number) => mode.toString(8).padStart(4, '0');
const columns = <T extends FileView>(title: string, nameOf: (file: T) => string): Column<T>[] => [
  { title: 'TYPE', value: (file) => file.type },
  { title: 'MODE', value: (file) => octal(file.mode) },
  { title: 'SIZE', value: (file) => formatBytes(file.size) },
  { title: 'MODIFIED', value: (file) => time(file.mtime) },
  { title, value: (file) => withTarget(nameOf(file), file.target) },
];

/** The commands that look into a mount. */
export function lookCommands(mount: Command): void {
  mount
    .command('files <id>')
    .description('list a folder')
    .option('--path <dir>', 'the folder', '/')
    .action(async (id: string, options: { path: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const files: FileView[] = [];
      let cursor: string | null = null;
      do {
        const page: { files: FileView[]; next_cursor: string | null } = await client.call(
          'GET',
          `/restore/${encodeURIComponent(id)}/files${query({ path: options.path, limit: 1000, cursor: cursor ?? undefined })}`,
        );
        for (const file of page.files) files.push(file);
        cursor = page.next_cursor;
      } while (cursor !== null);
      const name = (file: FileView) => file.name;
      print(format, { path: options.path, files }, files, columns('NAME', name), (file) =>
        printable(name(file)),
      );
    });
  mount
    .command('search <id> <pattern>')
    .description('find names by a shell pattern, as in "*.conf"')
    .option('--path <dir>', 'the folder to search below', '/')
    .option('-i, --ignore-case', 'take a and A for the same')
    .action(
      async (
        id: string,
        pattern: string,
        options: { path: string; ignoreCase?: boolean },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const files: FoundView[] = [];
        const skippedExamples: string[] = [];
        let skipped = 0;
        let cursor: string | null = null;
        do {
          const values = { pattern, path: options.path, ignore_case: options.ignoreCase, limit: 1000 };
          const answer: SearchAnswer = await client.call(
            'GET',
            `/restore/${encodeURIComponent(id)}/search${query({ ...values, cursor: cursor ?? undefined })}`,
          );
          // names are shown as they are found; the other formats are documents
          if (format === 'name')
            for (const file of answer.files) process.stdout.write(`${printable(file.path)}\n`);
          for (const file of answer.files) files.push(file);
          skipped += answer.skipped;
          skippedExamples.push(...answer.skipped_examples);
          cursor = answer.next_cursor;
        } while (cursor !== null);
        const document = {
          path: options.path,
          pattern,
          files,
          skipped,
          skipped_examples: skippedExamples.slice(0, 5),
        };
        if (format !== 'name')
          print(
            format,
            document,
            files,
            columns('PATH', ({ path }: FoundView) => path),
            ({ path }) => path,
          );
        if (skipped > 0)
          say(`warning: ${skipped} folders could not be searched, as ${printable(skippedExamples[0] ?? '')}`);
      },
    );
  mount
    .command('stat <id> <path>')
    .description('all about one file')
    .option('--follow', 'what a symbolic link leads to')
    .option('--preview <bytes>', 'show how it begins', previewBytes)
    .action(
      async (id: string, path: string, options: { follow?: boolean; preview?: number }, command: Command) => {
        const { client, format } = contextOf(command);
        const file = await client.call<StatView>(
          'GET',
          `/restore/${encodeURIComponent(id)}/stat${query({ path, ...options })}`,
        );
        const more: Column<StatView>[] = [
          { title: 'ALLOCATED', value: (each) => formatBytes(each.allocated_bytes) },
          { title: 'OWNER', value: (each) => `${each.uid}:${each.gid}` },
          { title: 'LINKS', value: (each) => String(each.links) },
          { title: 'MEDIA TYPE', value: (each) => each.media_type ?? '-' },
          { title: 'XATTRS', value: (each) => each.xattrs?.join(' ') ?? '-' },
        ];
        const shown = columns('PATH', ({ path: each }: StatView) => each);
        print(
          format,
          file,
          [file],
          [...shown.slice(0, 4), ...more, ...shown.slice(4)],
          ({ path: each }) => each,
        );
        if (format === 'table' && file.preview)
          for (const line of file.preview.content.split('\n')) process.stdout.write(`${printable(line)}\n`);
      },
    );
}
