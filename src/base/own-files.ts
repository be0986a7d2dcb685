// The programs are bundled (scripts/bundle.mjs): what they need of this package is found from here, which is as deep
// in src/ and in dist/ as the bundles are.
const isSource = import.meta.url.endsWith('.ts');

/** A file of the package, by its path below package.json. */
export const packageFile = (path: string): URL => new URL(`../../${path}`, import.meta.url);

/** A compiled part of the programs, or its source where that is what runs; by its path without extension. */
export const programPart = (path: string): URL =>
  packageFile(isSource ? `src/${path}.ts` : `dist/${path}.js`);

/** A folder of the sources that is copied to what is compiled. */
export const partFolder = (path: string): URL => packageFile(`${isSource ? 'src' : 'dist'}/${path}/`);
