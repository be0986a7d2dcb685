import { isDeepStrictEqual } from 'node:util';
import { type LoadedConfig, loadConfig } from '../base/config/load-config.ts';
import type { Logger } from '../base/logger.ts';
import { messageOf } from '../base/sendense-error.ts';

/** What a running daemon takes over; everything else is wired at start. */
const takenOver = new Set(['log.level']);

/**
 * Reads the settings again. Those that are not valid change nothing.
 * @returns the settings that differ from those of the start and wait for a restart; null: they are not valid
 */
export async function reloadConfig(
  inputs: Parameters<typeof loadConfig>[0],
  started: LoadedConfig,
  logger: Logger,
): Promise<string[] | null> {
  let config: LoadedConfig['config'];
  try {
    ({ config } = await loadConfig(inputs));
  } catch (error) {
    logger.error({ error: messageOf(error) }, 'the settings are not valid; those of before stay');
    return null;
  }
  logger.level = config.log.level;
  const waiting = differences(started.config, config).filter((name) => !takenOver.has(name));
  if (waiting.length > 0) logger.warn({ settings: waiting }, 'reloaded; these settings wait for a restart');
  else logger.info('reloaded');
  return waiting;
}

type Sections = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** `section.key` of what is not alike. Pure. */
function differences(one: Sections, other: Sections): string[] {
  return Object.entries(other).flatMap(([section, values]) =>
    Object.entries(values)
      .filter(([key, value]) => !isDeepStrictEqual(one[section]?.[key], value))
      .map(([key]) => `${section}.${key}`),
  );
}
