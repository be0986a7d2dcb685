import type { Command } from 'commander';
import { homePaths } from '../../base/home/home-paths.ts';
import type { Format } from '../output.ts';
import { type Client, createClient } from './client.ts';
import { remoteOf } from './remote.ts';

export interface CliContext {
  readonly client: Client;
  readonly format: Format;
  readonly home: string | null;
}

/** From the options that every command understands. */
export function contextOf(command: Command): CliContext {
  const options = command.optsWithGlobals<{
    home?: string;
    output?: string;
    format?: Format;
    url?: string;
    tokenFile?: string;
    fingerprint?: string;
    ca?: string;
  }>();
  const home = options.home ?? process.env['SENDENSE_HOME'] ?? null;
  const place = remoteOf(options, process.env) ?? homePaths(home).socketFile;
  return { client: createClient(place), format: options.format ?? 'table', home };
}
