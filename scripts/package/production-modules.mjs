/** Prints the folder of each npm package that runs in production, as the lock file knows them, for this platform. */
import { existsSync, readFileSync } from 'node:fs';

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'));
/** Where Node finds `name` from the folder `from`: the nearest node_modules on the way up. */
const resolve = (from, name) => {
  for (let place = from; ; place = place.replace(/(^|\/)node_modules\/(@[^/]+\/)?[^/]+$/, '')) {
    const path = `${place === '' ? '' : `${place}/`}node_modules/${name}`;
    if (packages[path] !== undefined) return path;
    if (place === '') return null;
  }
};
const found = new Set();
const visit = (path) => {
  const entry = packages[path];
  for (const [names, isOptional] of [
    [entry.dependencies, false],
    [entry.optionalDependencies, true],
    [entry.peerDependencies, true],
  ])
    for (const name of Object.keys(names ?? {})) {
      const next = resolve(path, name);
      if (next === null || !existsSync(next)) {
        if (isOptional) continue;
        throw new Error(`${name}, which ${path} needs, is not in node_modules; run scripts/setup`);
      }
      // a package of types has nothing to run, and a peer that only the checks of the checkout have is no one's
      if (name.startsWith('@types/') || packages[next].dev === true || found.has(next)) continue;
      found.add(next);
      visit(next);
    }
};
visit('');
// a package inside another one comes with it
const all = [...found].toSorted();
for (const path of all)
  if (!all.some((other) => path.startsWith(`${other}/`))) process.stdout.write(`${path}\n`);
