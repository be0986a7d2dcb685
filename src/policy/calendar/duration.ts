/** Minutes, hours, days and weeks are exact; months and years follow the calendar. */
export type DurationUnit = 'm' | 'h' | 'd' | 'w' | 'mo' | 'y';

export interface Duration {
  readonly amount: number;
  readonly unit: DurationUnit;
}

/** Name of each unit, and its length in days where only the order of size matters. */
const units: Readonly<Record<DurationUnit, { readonly word: string; readonly aboutDays: number }>> = {
  m: { word: 'minute', aboutDays: 1 / (24 * 60) },
  h: { word: 'hour', aboutDays: 1 / 24 },
  d: { word: 'day', aboutDays: 1 },
  w: { word: 'week', aboutDays: 7 },
  mo: { word: 'month', aboutDays: 30 },
  y: { word: 'year', aboutDays: 365 },
};

/** Nobody keeps backups for less than an hour, but many write `6m` and mean months: that must not delete half a year. */
const LEAST_MINUTES = 60;
const MOST_YEARS = 100;
const FORM = 'write a whole number and one unit, as in 90m, 36h, 14d, 8w, 6mo or 2y';

/** @throws RangeError that quotes the text and says what to write instead */
export function parseDuration(text: string): Duration {
  const refuse = (why: string) => new RangeError(`"${text}" ${why}`);
  const match = /^(\d+)([A-Za-z]*)$/.exec(text);
  if (!match) throw refuse(`is no duration: ${FORM}`);
  const [, digits = '', unit = ''] = match;
  const amount = Number(digits);
  if (unit === '') throw refuse(`has no unit: ${FORM}`);
  if (!isUnit(unit)) throw refuse(`has the unknown unit "${unit}": ${hintFor(digits, unit)}`);
  if (amount === 0) throw refuse('is no time at all: the number must be at least 1');
  if (unit === 'm' && amount < LEAST_MINUTES) {
    throw refuse(`is ${describeDuration({ amount, unit })}, the least is 60m; for months write ${digits}mo`);
  }
  if (amount * units[unit].aboutDays > MOST_YEARS * units.y.aboutDays) {
    throw refuse(`is longer than ${MOST_YEARS} years`);
  }
  return { amount, unit };
}

/** `1 day`, `6 months`. */
export function describeDuration({ amount, unit }: Duration): string {
  return `${amount} ${units[unit].word}${amount === 1 ? '' : 's'}`;
}

const isUnit = (text: string): text is DurationUnit => Object.hasOwn(units, text);

function hintFor(digits: string, unit: string): string {
  if (unit === 'M') return `for months write ${digits}mo`;
  return isUnit(unit.toLowerCase()) ? `write ${digits}${unit.toLowerCase()}` : FORM;
}
