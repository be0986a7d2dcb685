/** camelCase inside, snake_case on the wire; converted only here. */
export function toWire(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toWire);
  if (value === null || typeof value !== 'object') return value;
  // a plain loop: an answer may have a million values
  const wired: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value))
    if (key !== '__proto__') wired[wireName(key)] = toWire(inner);
  return wired;
}

/** The names are few, the values may be a hundred thousand. Those of free-form data are not remembered for ever. */
const wireNames = new Map<string, string>();
const MAX_NAMES = 2_000;

function wireName(key: string): string {
  const known = wireNames.get(key);
  if (known !== undefined) return known;
  const name = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  if (wireNames.size < MAX_NAMES) wireNames.set(key, name);
  return name;
}
