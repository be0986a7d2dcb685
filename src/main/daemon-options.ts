import { Command, CommanderError } from 'commander';

export interface DaemonOptions {
  readonly home: string | null;
  readonly set: readonly string[];
}

/** What the daemon may be told; its man page is made of it. */
export const daemonCommand = (version: string): Command =>
  new Command('sendensed')
    .description('The Sendense daemon. A fresh home needs no configuration.')
    .version(version)
    .option('--home <dir>', 'everything lives under this folder (or SENDENSE_HOME)')
    .option(
      '--set <section.key=value>',
      'a setting; repeatable',
      (value: string, all: string[]) => [...all, value],
      [] as string[],
    )
    .exitOverride();

/** @throws CommanderError, its exit code 0 after --help */
export function daemonOptions(argv: readonly string[], version: string): DaemonOptions {
  const program = daemonCommand(version).parse(argv);
  const options = program.opts<{ home?: string; set: string[] }>();
  return { home: options.home ?? process.env['SENDENSE_HOME'] ?? null, set: options.set };
}

export const isUsageError = (error: unknown): error is CommanderError => error instanceof CommanderError;
