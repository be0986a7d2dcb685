// Puts each program of a compiled folder into few files: reading hundreds of small ones took longer than all they do.
// usage: node scripts/bundle.mjs FOLDER
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

const main = join(process.argv[2] ?? 'dist', 'main');
const programs = readdirSync(main).filter((name) => /^sendense[a-z-]*\.js$/.test(name));
const bundle = await rolldown({
  input: Object.fromEntries(programs.map((name) => [name.replace('.js', ''), join(main, name)])),
  platform: 'node',
  // they find their native parts by their own place
  external: [/^node:/, 'better-sqlite3', '@napi-rs/blake-hash'],
  logLevel: 'warn',
});
// in the folder of the sources: files that are looked for beside a program are found as before
await bundle.write({
  dir: main,
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: 'shared-[name]-[hash].js',
});
await bundle.close();
