import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { runPiped } from '../../base/process/run-piped.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { UndoStack } from '../mount/undo-stack.ts';
import type { VolumesSpec } from './volumes-spec.ts';

/** A volume is read in pieces; there is nothing to keep. */
const HEAP_FLAGS = ['--max-old-space-size=128', '--max-semi-space-size=2'];

/**
 * Starts the process that serves logical volumes, and waits until it does.
 * @param onLost told when it ends before it is stopped
 * @throws TOOL_FAILED
 */
export async function startVolumes(
  undo: UndoStack,
  volumesFile: string,
  spec: VolumesSpec,
  onLost: () => void,
): Promise<void> {
  const child = runPiped(process.execPath, [...HEAP_FLAGS, volumesFile]);
  let isUnwanted = false;
  undo.push('end the process that serves volumes', async () => {
    isUnwanted = true;
    child.stdin.end();
    // one that was killed has ended too
    await child.done.catch(() => undefined);
  });
  const ended = child.done.then(() => {
    throw new SendenseError('TOOL_FAILED', {
      tool: 'sendense-volumes',
      outcome: 'exit code 0',
      detail: 'too early',
    });
  });
  ended.catch(() => {
    if (!isUnwanted) onLost();
  });
  const lines = createInterface({ input: child.stdout });
  child.stdin.write(`${JSON.stringify(spec)}\n`);
  await Promise.race([once(lines, 'line'), ended]);
}
