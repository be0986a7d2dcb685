import type { Command } from 'commander';
import { homePaths } from '../base/home-paths.ts';
import { type Client, createClient } from './client.ts';
import type { Format } from './output.ts';

export interface CliContext {
  readonly client: Client;
  readonly format: Format;
  readonly home: string | null;
}

/** From the options that every command understands. */
export function contextOf(command: Command): CliContext {
  const options = command.optsWithGlobals<{ home?: string; output?: string; format?: Format }>();
  const home = options.home ?? process.env['SENDENSE_HOME'] ?? null;
  return { client: createClient(homePaths(home).socketFile), format: options.format ?? 'table', home };
}
