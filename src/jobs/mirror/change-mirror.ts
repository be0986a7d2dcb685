import { SendenseError } from '../../base/sendense-error.ts';
import type { MirrorRecord, MirrorSettings } from '../../catalog/mirrors/mirrors.ts';
import { findRecord, type MirrorDeps } from './mirror-deps.ts';

export interface MirrorChange
  extends Partial<Pick<MirrorRecord, 'accessKey' | 'secretKeyFile' | 'tlsCaFile'>> {
  readonly settings: Partial<MirrorSettings>;
}

/** Used from the next piece of work on. @throws MIRROR_UNKNOWN, MIRROR_INVALID */
export function changeMirror(deps: MirrorDeps, name: string, change: MirrorChange): MirrorRecord {
  const record = findRecord(deps, name);
  const { settings, ...rest } = change;
  if (settings.lock && record.capabilities?.['object_lock'] !== true)
    throw new SendenseError('MIRROR_INVALID', {
      detail: 'the server was not seen to keep object locks; only a new mirror with --lock finds out',
    });
  const changed = { ...record, ...rest, settings: { ...record.settings, ...settings } };
  deps.catalog.mirrors.save(changed);
  return changed;
}
