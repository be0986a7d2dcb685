import { readFile } from 'node:fs/promises';
import { parse as parseToml } from 'smol-toml';
import { parseInput } from '../parse-input.ts';
import { errnoOf, messageOf, SendenseError } from '../sendense-error.ts';
import { type Config, configSchema } from './config-schema.ts';

export type ConfigOrigin = 'default' | 'file' | 'environment' | 'flag';

export interface LoadedConfig {
  readonly config: Config;
  /** For each setting, as in `exports.backend`, where its value comes from. */
  readonly origins: Map<string, ConfigOrigin>;
}

interface ConfigInputs {
  readonly file: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `section.key=value` from the command line. */
  readonly flags: readonly string[];
}

/** Variables of the same prefix that are not settings. */
const reservedVariables = new Set([
  ...['SENDENSE_HOME', 'SENDENSE_OWNER', 'SENDENSE_CRASH_AT'],
  // of sendense-ctl
  ...['SENDENSE_URL', 'SENDENSE_TOKEN_FILE', 'SENDENSE_FINGERPRINT', 'SENDENSE_CA'],
]);

type Tree = Record<string, Record<string, unknown>>;

/**
 * Merges defaults < file < environment (`SENDENSE_EXPORTS__BACKEND`) < flags and validates the whole.
 * @throws CONFIG_INVALID with the key at fault
 */
export async function loadConfig(inputs: ConfigInputs): Promise<LoadedConfig> {
  const origins = new Map<string, ConfigOrigin>();
  const tree: Tree = {};
  const assign = (section: string, key: string, value: unknown, origin: ConfigOrigin) => {
    tree[section] ??= {};
    tree[section][key] = value;
    origins.set(`${section}.${key}`, origin);
  };
  for (const [section, values] of Object.entries(await readTree(inputs.file))) {
    if (typeof values !== 'object' || values === null) {
      throw invalid(`${section} in ${inputs.file} is not a section`);
    }
    // an empty section too, so that a misspelt one is found
    tree[section] ??= {};
    for (const [key, value] of Object.entries(values)) assign(section, key, value, 'file');
  }
  for (const [name, value] of Object.entries(inputs.environment)) {
    if (!name.startsWith('SENDENSE_') || reservedVariables.has(name) || value === undefined) continue;
    const [section, key] = name.slice('SENDENSE_'.length).toLowerCase().split('__');
    if (!section || !key) throw invalid(`the variable ${name} is no setting; write SENDENSE_SECTION__KEY`);
    assign(section, key, parseScalar(value), 'environment');
  }
  for (const flag of inputs.flags) {
    const match = /^([a-z_]+)\.([a-z_]+)=(.*)$/.exec(flag);
    if (!match) throw invalid(`"--set ${flag}" is not of the form section.key=value`);
    assign(match[1] ?? '', match[2] ?? '', parseScalar(match[3] ?? ''), 'flag');
  }
  const config = parseInput(configSchema, tree, 'the configuration', invalid);
  for (const [section, values] of Object.entries(config)) {
    for (const key of Object.keys(values)) {
      const name = `${section}.${key}`;
      if (!origins.has(name)) origins.set(name, 'default');
    }
  }
  return { config, origins };
}

async function readTree(file: string): Promise<Record<string, unknown>> {
  try {
    return parseToml(await readFile(file, 'utf8'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return {};
    throw invalid(`${file}: ${messageOf(error)}`);
  }
}

function parseScalar(text: string): unknown {
  if (/^-?\d+$/.test(text)) return Number(text);
  if (text === 'true' || text === 'false') return text === 'true';
  return text;
}

const invalid = (detail: string) => new SendenseError('CONFIG_INVALID', { detail });
