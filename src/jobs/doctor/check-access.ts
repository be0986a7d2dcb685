import { type Finding, failed, ok, warn } from './finding.ts';

const DAY_MS = 86_400_000;
/** Time to get another certificate, and to tell all clients. */
const SOON_DAYS = 30;
/** A time server moves a clock slowly; more at once is a person, or a machine that was paused. */
const JUMP_S = 5;

export interface AccessFacts {
  readonly now: Date;
  /** ISO 8601; null: the API is not reached over TCP. */
  readonly certificateUntil: string | null;
  /** True: the appliance made it for itself. */
  readonly isOwnCertificate: boolean;
  /** Files and folders that hold secrets, with their mode; absent ones are left out. */
  readonly secrets: readonly { readonly path: string; readonly mode: number }[];
  /** Whether a time server sets the clock; null: it cannot be told. */
  readonly isSynchronised: boolean | null;
  /** Seconds by which the clock was set since the daemon started. */
  readonly jumpS: number;
}

/** Pure. */
export const checkAccess = (facts: AccessFacts): Finding[] => [
  checkCertificate(facts),
  checkSecrets(facts),
  checkTime(facts),
];

function checkCertificate({ now, certificateUntil, isOwnCertificate }: AccessFacts): Finding {
  const check = 'certificate';
  if (certificateUntil === null) return ok(check, 'none: api.listen is empty');
  const days = Math.floor((Date.parse(certificateUntil) - now.getTime()) / DAY_MS);
  const next = isOwnCertificate
    ? 'Remove own.key and own.crt from the folder state/api, start the daemon again, and give clients the new fingerprint.'
    : 'Get a new one, put it where api.tls_certificate and api.tls_key say, and start the daemon again.';
  if (days < 0) return failed(check, `it expired at ${certificateUntil}`, next);
  const detail = `good until ${certificateUntil.slice(0, 10)}`;
  return days < SOON_DAYS ? warn(check, `${detail}, ${days} days`, next) : ok(check, detail);
}

function checkSecrets({ secrets }: AccessFacts): Finding {
  const check = 'rights';
  const open = secrets.filter(({ mode }) => (mode & 0o007) !== 0).map(({ path }) => path);
  if (open.length === 0) return ok(check, `${secrets.length} files and folders are closed to others`);
  return failed(check, `every user can read ${open.join(', ')}`, `chmod o= ${open.join(' ')}`);
}

function checkTime({ isSynchronised, jumpS }: AccessFacts): Finding {
  const check = 'time server';
  const next =
    'timedatectl set-ntp true, or install chrony. Tokens, schedules and retention go by this clock.';
  if (Math.abs(jumpS) > JUMP_S)
    return warn(check, `the clock was set by ${Math.round(jumpS)} s since the daemon started`, next);
  if (isSynchronised === false) return warn(check, 'no time server sets the clock', next);
  return ok(
    check,
    isSynchronised
      ? 'the clock is synchronised'
      : 'the clock did not jump; nothing tells whether it is synchronised',
  );
}
