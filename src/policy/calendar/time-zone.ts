const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

export interface TimeZone {
  readonly name: string;
  /** Local time minus UTC at this instant, ms. */
  offsetMsAt(instantMs: number): number;
}

/** True for an IANA name that this Node knows. An offset such as `+01:00` has no calendar behind it and is refused. */
export function isTimeZone(name: string): boolean {
  if (!/^[A-Za-z]/.test(name)) return false;
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: name });
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/**
 * A time zone that answers quickly for many instants.
 * Intl is asked at both ends of a UTC day, and for each minute of it only when they differ: in tzdata, no zone has
 * changed twice within three days since 1973, and each change came at a full minute. Not at a full quarter of an hour:
 * Antarctica/Casey changed at 16:01 UTC in 2022.
 * @throws RangeError for a name that `isTimeZone` refuses
 */
export function openTimeZone(name: string): TimeZone {
  // planning opens the same one for each of thousands of machines, and Intl is slow to begin
  if (lastOpened?.name !== name) lastOpened = makeTimeZone(name);
  return lastOpened;
}
let lastOpened: TimeZone | null = null;

function makeTimeZone(name: string): TimeZone {
  if (!isTimeZone(name)) throw new RangeError(`"${name}" is no time zone of the IANA database`);
  const format = new Intl.DateTimeFormat('en-US', { timeZone: name, timeZoneName: 'longOffset' });
  const known = new Map<number, number>();
  const ask = (instantMs: number): number => {
    const earlier = known.get(instantMs);
    if (earlier !== undefined) return earlier;
    const offsetMs = parseLongOffset(format.format(instantMs));
    known.set(instantMs, offsetMs);
    return offsetMs;
  };
  return {
    name,
    offsetMsAt(instantMs) {
      const dayStart = Math.floor(instantMs / DAY_MS) * DAY_MS;
      const atStart = ask(dayStart);
      if (ask(dayStart + DAY_MS) === atStart) return atStart;
      return ask(Math.floor(instantMs / MINUTE_MS) * MINUTE_MS);
    },
  };
}

/** Reads `10/25/2026, GMT+02:00`; seconds stand there only for times before standard time. */
function parseLongOffset(text: string): number {
  const match = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(text);
  if (!match) throw new Error(`Intl gave "${text}" where a date with its offset was due`);
  const [, sign, hours = '0', minutes = '0', seconds = '0'] = match;
  const sizeMs = (Number(hours) * 60 + Number(minutes)) * MINUTE_MS + Number(seconds) * 1000;
  return sign === '-' ? -sizeMs : sizeMs;
}
