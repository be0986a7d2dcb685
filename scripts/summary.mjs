// Prints the failed tests of vitest's JSON report, or with --line the one closing line.
import { readFileSync } from 'node:fs';

const [file, mode] = process.argv.slice(2);
let report;
try {
  report = JSON.parse(readFileSync(file, 'utf8'));
} catch {
  // the runner ended before it could report
  report = { numPassedTests: 0, numFailedTests: 1, testResults: [], success: false };
}
const brokenFiles = report.testResults.filter((result) => result.status === 'failed' && result.assertionResults.every((test) => test.status !== 'failed'));
const failed = report.numFailedTests + brokenFiles.length;
if (mode === '--line') console.log(`${report.numPassedTests} passed, ${failed} failed`);
else {
  for (const result of report.testResults) for (const test of result.assertionResults) if (test.status === 'failed') console.log(`FAILED: ${test.fullName} (${result.name})`);
  for (const result of brokenFiles) console.log(`FAILED to run: ${result.name}: ${result.message}`);
}
process.exitCode = failed === 0 && report.numPassedTests > 0 ? 0 : 1;
