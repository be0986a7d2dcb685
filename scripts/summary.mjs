// Reads vitest's JSON reports: of the first run, and of the second one of the files that failed in it, if there was one.
// Prints what failed; with --line the one closing line; with --again the files to run once more.
import { existsSync, readFileSync } from 'node:fs';

const [first, second, mode] = process.argv.slice(2);

function read(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).testResults;
  } catch {
    // the runner ended before it could report
    return [{ name: file, status: 'failed', message: 'there is no report', assertionResults: [] }];
  }
}
const hasFailed = (result) => result.status === 'failed' || result.assertionResults.some((test) => test.status === 'failed');
const firstResults = read(first);
const again = firstResults.filter(hasFailed).map((result) => result.name);
// only a few: when much fails it is not the machine that was busy
const isWorthIt = again.length > 0 && again.length <= 8 && again.every((name) => name.endsWith('.test.ts'));
const secondResults = isWorthIt && existsSync(second) ? read(second) : [];
const results = firstResults.map((result) => secondResults.find(({ name }) => name === result.name) ?? result);

const tests = results.flatMap((result) => result.assertionResults);
const passed = tests.filter((test) => test.status === 'passed').length;
const brokenFiles = results.filter((result) => result.status === 'failed' && result.assertionResults.every((test) => test.status !== 'failed'));
const failed = tests.filter((test) => test.status === 'failed').length + brokenFiles.length;
const failuresOf = (list) => list.flatMap((result) => result.assertionResults.filter((test) => test.status === 'failed').map((test) => `${test.fullName} (${result.name})`));
/** The first lines of what the first run had to say, so that the end of a long log tells why. */
const reasonOf = (name) => {
  const test = firstResults.flatMap((result) => result.assertionResults.map((one) => ({ ...one, key: `${one.fullName} (${result.name})` }))).find(({ key, status }) => key === name && status === 'failed');
  return (test?.failureMessages ?? []).join('\n').split('\n').slice(0, 12).map((line) => `    ${line.slice(0, 400)}`).join('\n');
};

if (mode === '--again') console.log(isWorthIt ? again.join('\n') : '');
else if (mode === '--line') console.log(`${passed} passed, ${failed} failed`);
else {
  const still = failuresOf(results);
  for (const name of failuresOf(firstResults).filter((name) => !still.includes(name))) console.log(`UNSTABLE: it failed beside others and passed alone: ${name}\n${reasonOf(name)}`);
  for (const name of still) console.log(`FAILED: ${name}\n${reasonOf(name)}`);
  for (const result of brokenFiles) console.log(`FAILED to run: ${result.name}: ${result.message}`);
}
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
