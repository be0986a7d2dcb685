import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

interface Block {
  /** The heading above it, without `#`. */
  readonly heading: string;
  /** What stands behind `sh` in the fence; empty: to be run as it is. */
  readonly kind: string;
  readonly text: string;
}

/** The blocks of a page of docs/ that are marked as `sh`, in their order. */
export function blocksOf(page: string): Block[] {
  const blocks: Block[] = [];
  let heading = '';
  for (const [, title, kind, text] of readFileSync(page, 'utf8').matchAll(
    /^#+ (.+)$|^```sh ?(\w*)\n([\s\S]*?)^```$/gm,
  ))
    if (title !== undefined) heading = title;
    else blocks.push({ heading, kind: kind ?? '', text: text ?? '' });
  return blocks;
}

interface Outcome {
  readonly code: number;
  readonly output: string;
}

/** Runs lines as one shell that ends at the first failure; no more than `seconds`. Nothing of the caller's appliance is known in it. */
export function runShell(
  script: string,
  env: Readonly<Record<string, string>>,
  seconds: number,
): Promise<Outcome> {
  const clean = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('SENDENSE_')),
  );
  return new Promise((resolve, reject) => {
    const shell = spawn('bash', ['-euo', 'pipefail', '-c', script], {
      env: { ...clean, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: seconds * 1000,
    });
    let output = '';
    const keep = (bytes: Buffer) => {
      output += bytes.toString('utf8');
    };
    shell.stdout.on('data', keep);
    shell.stderr.on('data', keep);
    shell.once('error', reject);
    shell.once('exit', (code) => resolve({ code: code ?? -1, output }));
  });
}
