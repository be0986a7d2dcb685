/** The five fields of a cron line as the values that they allow, each sorted. */
export interface CronFields {
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  readonly days: readonly number[];
  readonly months: readonly number[];
  /** 0 is Sunday. */
  readonly weekdays: readonly number[];
}

export const weekdayNames = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const monthNames = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];

interface FieldRule {
  readonly field: keyof CronFields;
  readonly least: number;
  readonly most: number;
  /** Names of the values from `least` on. */
  readonly names: readonly string[];
}

const rules: readonly FieldRule[] = [
  { field: 'minutes', least: 0, most: 59, names: [] },
  { field: 'hours', least: 0, most: 23, names: [] },
  { field: 'days', least: 1, most: 31, names: [] },
  { field: 'months', least: 1, most: 12, names: monthNames },
  // both 0 and 7 are Sunday, crontab(5)
  { field: 'weekdays', least: 0, most: 7, names: weekdayNames },
];

/**
 * Reads the five fields of crontab(5): numbers, names, lists, ranges and steps. What other programs add to that (`L`,
 * `W`, `#`, `?`, seconds) is refused: cron, systemd and we have to mean the same.
 * @throws RangeError that names the field
 */
export function parseCron(text: string): CronFields {
  const parts = text.trim().split(/\s+/);
  if (parts.length !== rules.length)
    throw new RangeError(
      `"${text}" has ${parts.length} fields; cron has five: minute hour day month weekday`,
    );
  const values = rules.map((rule, index) => [rule.field, parseField(rule, parts[index] ?? '')] as const);
  return Object.fromEntries(values) as unknown as CronFields;
}

function parseField(rule: FieldRule, text: string): number[] {
  const values = text.split(',').flatMap((part) => parsePart(rule, part));
  const real = rule.field === 'weekdays' ? values.map((value) => value % 7) : values;
  return [...new Set(real)].toSorted((a, b) => a - b);
}

function parsePart(rule: FieldRule, part: string): number[] {
  const refuse = (why: string) => new RangeError(`"${part}" is no part of the field ${rule.field}: ${why}`);
  const match = /^(?:(\*)|(\w+)(?:-(\w+))?)(?:\/(\d+))?$/.exec(part);
  if (!match) throw refuse('write numbers, lists (1,15), ranges (1-5) or steps (*/15)');
  const [, star, first = '', last, step] = match;
  const numberOf = (word: string): number => {
    const index = rule.names.indexOf(word.toLowerCase());
    const value = /^\d+$/.test(word) ? Number(word) : index === -1 ? Number.NaN : index + rule.least;
    if (!(value >= rule.least && value <= rule.most))
      throw refuse(`it takes ${rule.least} to ${rule.most}${rule.names.length > 0 ? ' or names' : ''}`);
    return value;
  };
  // `*` of weekdays is 0 to 6: 7 is 0 again
  const most = rule.field === 'weekdays' ? 6 : rule.most;
  const from = star ? rule.least : numberOf(first);
  const to = star ? most : last === undefined ? from : numberOf(last);
  if (to < from) throw refuse('a range begins with the smaller value');
  if (step !== undefined && star === undefined && last === undefined)
    throw refuse('a step needs a range or *, as in */15');
  const every = step === undefined ? 1 : Number(step);
  if (every < 1) throw refuse('a step is at least 1');
  const values: number[] = [];
  for (let value = from; value <= to; value += every) values.push(value);
  return values;
}

const isEvery = (field: keyof CronFields, values: readonly number[]): boolean => {
  const rule = rules.find((one) => one.field === field);
  const most = field === 'weekdays' ? 6 : (rule?.most ?? 0);
  return values.length === most - (rule?.least ?? 0) + 1;
};

/** Null where the field allows everything. */
export function restricted(fields: CronFields, field: keyof CronFields): readonly number[] | null {
  return isEvery(field, fields[field]) ? null : fields[field];
}

/** The same times written in one way: `*` where everything is allowed, else a list. */
export const cronText = (fields: CronFields): string =>
  rules.map(({ field }) => restricted(fields, field)?.join(',') ?? '*').join(' ');
