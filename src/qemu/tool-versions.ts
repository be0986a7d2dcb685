import { run } from '../base/process/run.ts';
import { hasCode } from '../base/sendense-error.ts';

/** `[major, minor]`. */
export type ToolVersion = readonly [number, number];

export interface ToolVersions {
  readonly qemu: ToolVersion | null;
  readonly nbdServer: ToolVersion | null;
}

function parseVersion(text: string): ToolVersion | null {
  const match = /version (\d+)\.(\d+)/i.exec(text);
  return match ? [Number(match[1]), Number(match[2])] : null;
}

async function probe(tool: string, flag: string): Promise<ToolVersion | null> {
  try {
    const result = await run(tool, [flag], { okExitCodes: [0, 1], timeoutMs: 10_000 });
    return parseVersion(result.stdout + result.stderr);
  } catch (error) {
    if (hasCode(error, 'TOOL_MISSING')) return null;
    throw error;
  }
}

/** Asks each tool once, at start. Null: not installed. */
export async function probeToolVersions(): Promise<ToolVersions> {
  const [qemu, nbdServer] = await Promise.all([probe('qemu-img', '--version'), probe('nbd-server', '-V')]);
  return { qemu, nbdServer };
}

export const isAtLeast = (version: ToolVersion, wanted: ToolVersion): boolean =>
  version[0] > wanted[0] || (version[0] === wanted[0] && version[1] >= wanted[1]);

/**
 * How many reloads one nbd-server parent may see. Before 3.25 every SIGHUP corrupts the heap (a clear function gets
 * SERVER** for SERVER*). The parent died after five reloads here, and children forked before that died in the
 * middle of a transfer: so an old parent is never reloaded but replaced, which children outlive.
 */
export function reloadBudget(nbdServer: ToolVersion): number {
  return isAtLeast(nbdServer, [3, 25]) ? 500 : 0;
}

export const versionText = (version: ToolVersion | null): string =>
  version === null ? 'missing' : version.join('.');
