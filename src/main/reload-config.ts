import { isDeepStrictEqual } from 'node:util';
import { type LoadedConfig, loadConfig } from '../base/config/load-config.ts';
import type { Logger } from '../base/logger.ts';
import { messageOf } from '../base/sendense-error.ts';
import { defaultRulesOf } from './wiring/wire-chains.ts';

/**
 * What a running daemon takes over: these are read when they are used, or asked for by `settingsChanged`. What is under way
 * ends by the values that it began with. Everything else is wired at start.
 */
const takenOver = new Set([
  'log.level',
  'jobs.max_concurrent',
  ...['chain.max_depth', 'chain.consolidate', 'chain.consolidate_mib_per_s'],
  ...['keep_last', 'max_snapshots', 'keep_within', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'].map(
    (key) => `retention.${key}`,
  ),
  'retention.time_zone',
  ...['verify.scrub_percent_per_day', 'verify.scrub_mib_per_s', 'verify.scrub_interval_s'],
  ...['mounts.mode', 'mounts.idle_timeout_s', 'mounts.max', 'mounts.overlay_limit_bytes'],
  ...['mounts.max_downloads', 'mounts.max_downloads_per_mount', 'mounts.download_mib_per_s'],
  'restore.segment_mib',
  ...['live.max', 'live.overlay_limit_bytes'],
  ...['policies.max_per_repository', 'policies.max_per_source'],
  'api.restore_folders',
]);

type Sections = Record<string, Record<string, unknown>>;

/**
 * Reads the settings again and writes what is taken over into those of the start, which everybody reads. Settings that are
 * not valid change nothing.
 * @returns the settings that differ from those in use and wait for a restart; null: they are not valid
 */
export async function reloadConfig(
  inputs: Parameters<typeof loadConfig>[0],
  inUse: LoadedConfig,
  logger: Logger,
): Promise<string[] | null> {
  let fresh: LoadedConfig;
  try {
    fresh = await loadConfig(inputs);
    defaultRulesOf(fresh.config);
  } catch (error) {
    logger.error({ error: messageOf(error) }, 'the settings are not valid; those of before stay');
    return null;
  }
  const changed = differences(inUse.config, fresh.config);
  const taken = changed.filter((name) => takenOver.has(name));
  for (const name of taken) takeOver(name, inUse.config, fresh.config);
  for (const [name, origin] of fresh.origins) if (takenOver.has(name)) inUse.origins.set(name, origin);
  for (const name of inUse.origins.keys())
    if (takenOver.has(name) && !fresh.origins.has(name)) inUse.origins.delete(name);
  logger.level = inUse.config.log.level;
  const waiting = changed.filter((name) => !takenOver.has(name));
  const facts = { taken_over: taken };
  if (waiting.length > 0)
    logger.warn({ ...facts, settings: waiting }, 'reloaded; these settings wait for a restart');
  else logger.info(facts, 'reloaded');
  return waiting;
}

/** `section.key` of what is not alike, also where only one has it. Pure. */
function differences(one: Sections, other: Sections): string[] {
  return Object.keys({ ...one, ...other }).flatMap((section) =>
    Object.keys({ ...one[section], ...other[section] })
      .filter((key) => !isDeepStrictEqual(one[section]?.[key], other[section]?.[key]))
      .map((key) => `${section}.${key}`),
  );
}

function takeOver(name: string, inUse: Sections, fresh: Sections): void {
  const [section = '', key = ''] = name.split('.');
  const target = inUse[section];
  if (target === undefined) return;
  const value = fresh[section]?.[key];
  if (value === undefined) delete target[key];
  else target[key] = value;
}
