/** What looks like a secret, wherever it stands. */
const patterns: readonly (readonly [pattern: RegExp, instead: string])[] = [
  [/sds_[0-9a-f]{12}_[A-Za-z0-9_-]{20,}/g, '[token removed]'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, '[key removed]'],
  [/(Authorization\\?"?: *\\?"?(?:Bearer|Basic) +)[^\s"\\]+/gi, '$1[removed]'],
  [/(:\/\/[^\s/:@"]+:)[^\s/@"]+@/g, '$1[removed]@'],
];
/** Shorter ones would tear words apart, and are none. */
const LEAST_SECRET = 6;

/** Takes out what looks like a secret, and every secret that is known. Pure. */
export function redact(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) {
    if (secret.length < LEAST_SECRET) continue;
    // as it stands in JSON too
    for (const form of new Set([secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)]))
      clean = clean.replaceAll(form, '[removed]');
  }
  for (const [pattern, instead] of patterns) clean = clean.replace(pattern, instead);
  return clean;
}
