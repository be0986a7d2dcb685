import { type BlockReader, openFileReader } from './block-reader.ts';
import { openNbdReader } from './nbd-reader.ts';
import type { SourceSpec } from './source-spec.ts';

/** @throws SOURCE_MISSING, SOURCE_UNREADABLE, SOURCE_READ_FAILED, NbdConnectionLost, EXPORT_FAILED */
export function openReader(spec: SourceSpec): Promise<BlockReader> {
  return spec.kind === 'file' ? openFileReader(spec) : openNbdReader(spec);
}
