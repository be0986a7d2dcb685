import { basename, join } from 'node:path';
import { run } from '../../base/process/run.ts';
import { type RunningDaemon, startDaemon } from '../../base/process/start-daemon.ts';
import { hasCode, messageOf } from '../../base/sendense-error.ts';
import { readMountTable } from '../../mountd/privileged/mount-table.ts';
import type { Place, PrivilegedWork } from '../../mountd/privileged-work.ts';
import type { UndoStack } from '../mount/undo-stack.ts';
import type { FuseProgram } from './fuse-programs.ts';

/** e2fsck(8): 0 nothing to do, 1 corrected. */
const REPLAYED = [0, 1];
const READY_TIMEOUT_MS = 30_000;
/** What a program may take for its first answer; a guest's structures may lead it in circles. */
const ANSWER_TIMEOUT_MS = 15_000;

interface FuseMount {
  readonly path: string;
  /** What is wrong with its content. */
  readonly degraded: string | null;
}

interface FuseMountDeps {
  readonly work: PrivilegedWork;
  /** For the program's log. */
  readonly folder: string;
  /** Told when the program ends before it is stopped. */
  readonly onLost: () => void;
}

/**
 * Mounts a part of a disk by a program of user space: the kernel never reads the guest's structures.
 * @returns a sentence when the program refused
 * @throws TOOL_MISSING
 */
export async function mountByFuse(
  deps: FuseMountDeps,
  undo: UndoStack,
  program: FuseProgram,
  file: string,
  place: Place,
): Promise<FuseMount | string> {
  if (program.needsRoot && process.getuid?.() !== 0)
    return `${program.tool} needs root: mount with --mode vm`;
  const isReplayed = await replay(program, file);
  const path = await deps.work.makePlace(place);
  undo.push(`clear ${path}`, ({ force }) => deps.work.clearPlace(place, force));
  const started = await start(deps, undo, program, file, path, isReplayed);
  if (started === null) return { path, degraded: isReplayed ? null : 'journal not replayed' };
  if (!isReplayed || program.replay === null) return started;
  const second = await start(deps, undo, program, file, path, false);
  return second === null ? { path, degraded: 'journal not replayed' } : started;
}

async function replay({ replay: command }: FuseProgram, file: string): Promise<boolean> {
  if (command === null) return true;
  const [tool, ...args] = command(file);
  try {
    await run(tool, args, { okExitCodes: REPLAYED });
    return true;
  } catch (error) {
    if (!hasCode(error, 'TOOL_FAILED', 'TOOL_TIMEOUT')) throw error;
    return false;
  }
}

/** @returns what is wrong, or null */
async function start(
  { folder, onLost }: FuseMountDeps,
  undo: UndoStack,
  program: FuseProgram,
  file: string,
  path: string,
  isReplayed: boolean,
): Promise<string | null> {
  let daemon: RunningDaemon;
  try {
    daemon = await startDaemon(program.tool, program.args(file, path, { replay: isReplayed }), {
      logFile: join(folder, `${basename(path)}-${program.tool}.log`),
      // never asked of the file system itself: a program that hangs would hang us
      readyWhen: async () => (await readMountTable()).some(({ mountPoint }) => mountPoint === path),
      readyTimeoutMs: READY_TIMEOUT_MS,
    });
  } catch (error) {
    if (!hasCode(error, 'TOOL_FAILED', 'TOOL_TIMEOUT')) throw error;
    return messageOf(error);
  }
  try {
    await run('stat', ['-f', path], { timeoutMs: ANSWER_TIMEOUT_MS });
  } catch (error) {
    await daemon.stop();
    return `${program.tool} does not answer: ${messageOf(error)}`;
  }
  let isUnwanted = false;
  void daemon.exited.then(() => {
    if (!isUnwanted) onLost();
  });
  undo.push(`end ${program.tool}`, async ({ force }) => {
    isUnwanted = true;
    // unforced it ends when its file system is unmounted, so that who still uses it is not cut off
    if (force) await daemon.stop();
  });
  return null;
}
