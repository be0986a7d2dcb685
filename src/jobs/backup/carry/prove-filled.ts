import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from '../../../base/logger.ts';
import { SendenseError } from '../../../base/sendense-error.ts';
import { WrittenMap } from '../../../nbd/mover/written-map.ts';
import { disproveRows } from '../../../repository/layers/prove-rows.ts';
import type { JobContext } from '../../job-work.ts';
import type { CarryOrder } from './carrier.ts';

export interface ProofDeps {
  readonly logger: Logger;
  readonly runFolder: string;
}

/**
 * Reads back a layer that was not filled in one go by a process of ours. It stands for the map of what was written, which
 * has to be there when the layer is sealed.
 * @param invalid what is thrown when a row and the layer do not agree
 * @throws CANCELLED
 */
export async function proveFilled(
  deps: ProofDeps,
  { files, plan, disk }: CarryOrder,
  context: JobContext,
  invalid: (detail: string) => SendenseError,
): Promise<void> {
  context.setPhase('checking');
  const wrong = await disproveRows(deps, {
    chain: [files.partial, ...(plan.parent?.layers ?? []).map(({ image }) => image)],
    rowFile: files.partialRows,
    workFolder: join(deps.runFolder, `p${randomBytes(4).toString('hex')}`),
    signal: context.signal,
  }).catch((error: unknown) => {
    throw context.signal.aborted ? new SendenseError('CANCELLED', {}, error) : error;
  });
  if (wrong !== null) throw invalid(`at byte ${wrong.offset}: ${wrong.detail}`);
  await new WrittenMap(disk.sizeBytes).save(files.written);
}
