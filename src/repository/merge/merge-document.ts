import { removeDurably, writeJsonDurably } from '../../base/durable-file.ts';
import { errnoOf } from '../../base/sendense-error.ts';
import { type MergeDocument, mergeDocument } from '../documents.ts';
import { layout } from '../layout.ts';
import { readDocument } from '../read-document.ts';

/** The disk whose layers are rewritten. */
export interface MergePlace {
  readonly root: string;
  readonly vmUuid: string;
  readonly diskIndex: number;
}

const fileOf = ({ root, vmUuid, diskIndex }: MergePlace) => layout.mergeFile(root, vmUuid, diskIndex);

/** The rewriting that is under way, or null. @throws FORMAT_INVALID, FORMAT_TOO_NEW */
export async function readMerge(place: MergePlace): Promise<MergeDocument | null> {
  try {
    return await readDocument(fileOf(place), mergeDocument);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return null;
    throw error;
  }
}

export const writeMerge = (place: MergePlace, merge: MergeDocument): Promise<void> =>
  writeJsonDurably(fileOf(place), merge);

export const endMerge = (place: MergePlace): Promise<void> => removeDurably(fileOf(place));
