import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeFileDurably } from '../../base/durable-file.ts';
import { packageFile } from '../../base/own-files.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { isExportName } from './export-name.ts';

const templateFolder = packageFile('nbd-configs/');
const fill = (template: string, values: Readonly<Record<string, string>>) =>
  template.replace(/\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole);

/** Characters that GKeyFile would read as something else: escapes, control characters, outer blanks. */
function checkValue(path: string): string {
  const hasControl = [...path].some((character) => character.charCodeAt(0) < 0x20);
  if (!path.startsWith('/') || path.includes('\\') || hasControl || path !== path.trim()) {
    throw new SendenseError('CONFIG_INVALID', {
      detail: `the path ${JSON.stringify(path)} cannot stand in an nbd-server configuration`,
    });
  }
  return path;
}

/** nbd-server's configuration on disk: the base file and one file per export. */
export class ConfD {
  readonly baseFile: string;
  readonly folder: string;
  readonly #socket: string;

  constructor(runFolder: string, socket: string) {
    this.baseFile = join(runFolder, 'nbd-server.conf');
    this.folder = join(runFolder, 'conf.d');
    this.#socket = socket;
  }

  /** Writes the base file and drops the exports of an earlier daemon; foreign files stay. */
  async initialise(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o750 });
    for (const file of await readdir(this.folder)) {
      if (file.startsWith('backup-')) await rm(join(this.folder, file), { force: true });
    }
    const template = await readFile(new URL('nbd-server.conf', templateFolder), 'utf8');
    await writeFileDurably(
      this.baseFile,
      fill(template, { conf_d: checkValue(this.folder), socket: checkValue(this.#socket) }),
    );
  }

  async write(name: string, path: string): Promise<void> {
    if (!isExportName(name))
      throw new SendenseError('INTERNAL', { detail: `export name ${JSON.stringify(name)}` });
    const template = await readFile(new URL('export.conf.template', templateFolder), 'utf8');
    const target = join(this.folder, `${name}.conf`);
    // nbd-server reads dot files too, but nothing that does not end in .conf
    await using handle = await open(`${target}.new`, 'w', 0o640);
    await handle.writeFile(fill(template, { name, path: checkValue(path) }));
    await handle.sync();
    await rename(`${target}.new`, target);
    await syncFolder(this.folder);
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.folder, `${name}.conf`), { force: true });
  }

  /**
   * Moves away every file that makes nbd-server discard the whole configuration.
   * @returns the names of the files that were moved, each now ending in `.broken`
   */
  async quarantineBroken(): Promise<string[]> {
    const moved: string[] = [];
    for (const entry of await readdir(this.folder, { withFileTypes: true })) {
      // nbd-server itself passes over what is no regular file
      if (!entry.isFile() || !entry.name.endsWith('.conf')) continue;
      const path = join(this.folder, entry.name);
      const text = await readFile(path, 'utf8').catch(() => null);
      if (text !== null && confObjection(text) === null) continue;
      await rename(path, `${path}.broken`);
      moved.push(entry.name);
    }
    return moved;
  }
}

/** Keys that nbd-server reads as booleans; anything but `true` and `false` discards the whole configuration. */
const booleanKeys = new Set(
  'allowlist copyonwrite duallisten flush force_tls fua multifile oldstyle readonly rotational sparse_cow splice sync temporary trim'.split(
    ' ',
  ),
);

/** Why nbd-server would not take this file; null when it would. Pure. */
export function confObjection(text: string): string | null {
  let section: string | null = null;
  let hasPath = true;
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const header = /^\[([^[\]]+)\]$/.exec(line);
    if (header) {
      if (section !== null && !hasPath) return `[${section}] has no exportname`;
      section = header[1] ?? '';
      hasPath = section === 'generic';
      continue;
    }
    const pair = /^([A-Za-z0-9_-]+)\s*=\s*(.*)$/.exec(line);
    if (!pair) return `"${line.slice(0, 40)}" is no key = value`;
    if (section === null) return 'a key stands before the first section';
    const [, key = '', value = ''] = pair;
    if (key === 'exportname') hasPath = value !== '';
    if (booleanKeys.has(key) && value !== 'true' && value !== 'false') return `${key} must be true or false`;
  }
  return section !== null && !hasPath ? `[${section}] has no exportname` : null;
}
