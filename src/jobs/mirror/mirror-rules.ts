import { parseInput } from '../../base/parse-input.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { MirrorRecord, MirrorSettings } from '../../catalog/mirrors/mirrors.ts';
import { type RetentionRules, retentionRules } from '../../policy/retention/retention-rules.ts';

/** Whether somebody said what stays; a time zone alone keeps everything. */
export const hasRules = ({ retention }: Pick<MirrorSettings, 'retention'>): boolean =>
  Object.keys(retention).some((rule) => rule !== 'time_zone');

/** What stays in a mirror; no rules: everything. @throws MIRROR_INVALID */
export const mirrorRules = ({ name, settings }: Pick<MirrorRecord, 'name' | 'settings'>): RetentionRules =>
  parseInput(
    retentionRules,
    settings.retention,
    `the retention of the mirror "${name}"`,
    (detail) => new SendenseError('MIRROR_INVALID', { detail }),
  );
