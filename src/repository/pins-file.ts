import { removeDurably, writeJsonDurably } from '../base/durable-file.ts';
import { errnoOf } from '../base/sendense-error.ts';
import { type PinsDocument, pinsDocument, REPOSITORY_FORMAT } from './documents.ts';
import { layout } from './layout.ts';
import { readDocument } from './read-document.ts';

export type PinEntry = PinsDocument['pins'][number];

/** Pins of a restore point. @throws FORMAT_INVALID, FORMAT_TOO_NEW */
export async function readPins(root: string, vmUuid: string, backupId: string): Promise<PinEntry[]> {
  try {
    return (await readDocument(layout.pinsFile(root, vmUuid, backupId), pinsDocument)).pins;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Beside the manifest, so that a pin outlives the catalogue. */
export async function writePins(
  root: string,
  vmUuid: string,
  backupId: string,
  pins: readonly PinEntry[],
): Promise<void> {
  const file = layout.pinsFile(root, vmUuid, backupId);
  if (pins.length === 0) return await removeDurably(file);
  const document: PinsDocument = { format: REPOSITORY_FORMAT, backup_id: backupId, pins: [...pins] };
  await writeJsonDurably(file, document);
}
