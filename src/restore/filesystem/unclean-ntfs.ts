import { run } from '../../base/process/run.ts';
import { hasCode } from '../../base/sendense-error.ts';

/** Exit codes of ntfs-3g.probe(8). */
const HIBERNATED = 14;
const LOG_OPEN = 15;
const anyCode = Array.from({ length: 256 }, (_, code) => code);

/** What is missing of a file system that its Windows did not finish. @returns null when nothing is known to be */
export async function uncleanNtfs(file: string): Promise<string | null> {
  try {
    const probe = await run('ntfs-3g.probe', ['--readwrite', file], { okExitCodes: anyCode });
    if (probe.exitCode === HIBERNATED)
      return 'Windows is hibernated or uses fast start: what it kept in memory is missing';
    if (probe.exitCode === LOG_OPEN) return 'NTFS was not shut down cleanly: its log was not replayed';
    const info = await run('ntfsinfo', ['-m', file], { okExitCodes: anyCode });
    return /scheduled for check/i.test(info.stderr + info.stdout)
      ? 'NTFS was not shut down cleanly: Windows would check it first'
      : null;
  } catch (error) {
    // then ntfs-3g is missing too and says so itself
    if (hasCode(error, 'TOOL_MISSING')) return null;
    throw error;
  }
}
