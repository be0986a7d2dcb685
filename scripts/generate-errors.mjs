// Writes docs/errors.md from the error table; with --check only says whether it is up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { errorCodes } from '../dist/base/error-codes.js';

const target = new URL('../docs/errors.md', import.meta.url);
const cell = (text) => text.replaceAll('|', '\\|');
const rows = Object.entries(errorCodes).map(([code, entry]) => `| \`${code}\` | ${entry.kind} | ${entry.http} | ${entry.exit} | ${entry.retryable ? 'yes' : 'no'} | ${cell(entry.text)} | ${cell(entry.hint)} |`);
const text = `# Errors

Generated from \`src/base/error-codes/\` by \`node scripts/generate-errors.mjs\`; do not edit. \`{name}\` stands for a
field of the problem document. Codes are stable: programs may look at them.

| code | kind | HTTP | exit | retry | what happened | what next |
| --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`;
if (process.argv.includes('--check')) {
  let current = '';
  try {
    current = readFileSync(target, 'utf8');
  } catch {
    // reported below
  }
  if (current !== text) {
    console.error('docs/errors.md is not up to date: run node scripts/generate-errors.mjs');
    process.exitCode = 1;
  }
} else writeFileSync(target, text);
