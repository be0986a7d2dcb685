import { busy, type ErrorCodeEntry, user } from './entry.ts';

/** Who may use the API, and how it is reached over TCP. */
export const accessCodes = {
  TOKEN_NEEDED: user(
    401,
    12,
    'This needs a token: {detail}',
    'Get one with `sendense-ctl token create NAME --role viewer` on the appliance, and give it with --token-file FILE.',
  ),
  TOKEN_REFUSED: user(
    401,
    12,
    'The token is refused.',
    'It is mistyped, expired, rotated or revoked: `sendense-ctl token list` on the appliance says which.',
  ),
  TOKEN_LIMITED: {
    ...busy(
      'Too many requests with a wrong token came from {from}.',
      'Wait {seconds} s; then try again with a good one.',
    ),
    http: 429,
  },
  TOKEN_UNKNOWN: user(
    404,
    10,
    'There is no token called "{token}" in use.',
    'See `sendense-ctl token list --all`.',
  ),
  TOKEN_EXISTS: user(
    409,
    13,
    'A token called "{token}" exists already.',
    'Pick another name, rotate it with `sendense-ctl token rotate {token}`, or revoke it first.',
  ),
  ROLE_TOO_LOW: user(
    403,
    12,
    'This needs the role {needed}; {who} has the role {role}.',
    'Use another token, or ask an admin for one: `sendense-ctl token create NAME --role {needed}`.',
  ),
  SCOPE_TOO_NARROW: user(
    403,
    12,
    '{who} is for some machines only, and {detail}.',
    'Name one of its machines, or use a token for all machines. `sendense-ctl token whoami` says what it is for.',
  ),
  OUTPUT_NOT_ALLOWED: user(
    403,
    12,
    '{who} may not use the place {path} on the appliance.',
    'With a token below admin, places on the appliance must lie in a folder of the setting `api.restore_folders`. Or use the command on the appliance itself.',
  ),
  CERTIFICATE_MISMATCH: user(
    403,
    12,
    'What answers at {url} does not show the certificate that was expected: {detail}',
    'Compare with the `api.fingerprint` of `sendense-ctl config show` on the appliance. If it is right there, somebody stands between: do not go on.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
