// Writes docs/cli.md and docs/api.md from the commands and the routes; with --check only says whether they are up to date.
import { apiPage } from './reference/api-page.mjs';
import { cliPage } from './reference/cli-page.mjs';
import { writeOrCheck } from './reference/write-or-check.mjs';

const generator = 'scripts/generate-reference.mjs';
writeOrCheck('cli.md', await cliPage(), generator);
writeOrCheck('api.md', await apiPage(), generator);
