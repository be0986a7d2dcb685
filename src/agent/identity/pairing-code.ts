import { createHash, randomInt } from 'node:crypto';
import { SendenseError } from '../../base/sendense-error.ts';

/** Crockford's base 32: no I, L, O, U, so that nothing is mistaken when it is read aloud. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
/** 80 bits of the authority's key: no second key with the same ones can be found. */
const PIN_CHARACTERS = 16;
/** 65 bits, good once and for ten minutes. */
const SECRET_CHARACTERS = 13;
const LENGTH = PIN_CHARACTERS + SECRET_CHARACTERS + 1;
const GROUP = 5;

export interface PairingCode {
  /** Beginning of the digest of the appliance's authority: by it the agent knows the appliance. */
  readonly pin: string;
  /** By it the appliance knows the agent. */
  readonly secret: string;
}

/** What a code says of an authority. @param fingerprint SHA-256 of its public key, hex */
export function pinOf(fingerprint: string): string {
  let bits = BigInt(`0x${fingerprint}`) >> BigInt(256 - PIN_CHARACTERS * 5);
  let text = '';
  for (let left = PIN_CHARACTERS; left > 0; left -= 1) {
    text = ALPHABET.charAt(Number(bits & 31n)) + text;
    bits >>= 5n;
  }
  return text;
}

export const newSecret = (): string =>
  Array.from({ length: SECRET_CHARACTERS }, () => ALPHABET.charAt(randomInt(32))).join('');

/** What is stored of a secret. */
export const secretHash = (secret: string): string => createHash('sha256').update(secret).digest('hex');

/** Tells a mistyped code from a wrong one. */
const checkOf = (text: string): string =>
  ALPHABET.charAt((createHash('sha256').update(text).digest()[0] ?? 0) & 31);

/** `XXXXX-XXXXX-…`, six groups. */
export function writeCode({ pin, secret }: PairingCode): string {
  const text = `${pin}${secret}`;
  return `${text}${checkOf(text)}`.replace(new RegExp(`.{${GROUP}}(?=.)`, 'g'), '$&-');
}

/** Takes small letters, blanks, and the letters that are mistaken for digits. @throws PAIRING_CODE_INVALID */
export function readCode(text: string): PairingCode {
  const plain = text.toUpperCase().replace(/[\s-]/g, '').replace(/[IL]/g, '1').replaceAll('O', '0');
  const invalid = (detail: string) => new SendenseError('PAIRING_CODE_INVALID', { detail });
  if (plain.length !== LENGTH) throw invalid(`it has ${plain.length} characters instead of ${LENGTH}`);
  const wrong = [...plain].find((character) => !ALPHABET.includes(character));
  if (wrong !== undefined) throw invalid(`${JSON.stringify(wrong)} stands in no code`);
  const body = plain.slice(0, -1);
  if (checkOf(body) !== plain.at(-1)) throw invalid('a character of it is mistyped');
  return { pin: body.slice(0, PIN_CHARACTERS), secret: body.slice(PIN_CHARACTERS) };
}
