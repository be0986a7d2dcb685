import { SendenseError } from '../../../base/sendense-error.ts';

/** `any`: any number of characters; `one`: exactly one; else one character of a set, or of what is not in it. */
type Token =
  | 'any'
  | 'one'
  | { readonly isNegated: boolean; readonly ranges: readonly (readonly [string, string])[] };

const MAX_PATTERN_CHARACTERS = 255;
const isAscii = (text: string) => /^[\0-\x7f]*$/.test(text);

const invalid = (pattern: string, detail: string) =>
  new SendenseError('REQUEST_INVALID', { detail: `the pattern "${pattern}" ${detail}` });

/**
 * A shell pattern for names: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character that means itself. As with find(1),
 * a leading dot is nothing special. Matching takes at most length of name × length of pattern steps, whatever the
 * pattern: it is no regular expression.
 * @returns a test of a name that is given as latin1 text, a character per byte
 * @throws REQUEST_INVALID
 */
export function namePattern(pattern: string, ignoreCase: boolean): (name: string) => boolean {
  const fold = (text: string) => (ignoreCase ? text.toLowerCase() : text);
  if (pattern === '' || pattern.length > MAX_PATTERN_CHARACTERS)
    throw invalid(pattern.slice(0, 40), `must have 1 to ${MAX_PATTERN_CHARACTERS} characters`);
  if (pattern.includes('/')) throw invalid(pattern, 'has a slash; it is compared with names, not paths');
  const tokens = parse(fold(pattern));
  return (name) => {
    const text = isAscii(name) ? name : Buffer.from(name, 'latin1').toString();
    return matches(tokens, [...fold(text)]);
  };
}

function parse(pattern: string): Token[] {
  const characters = [...pattern];
  const tokens: Token[] = [];
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at] ?? '';
    if (character === '*') {
      if (tokens.at(-1) !== 'any') tokens.push('any');
    } else if (character === '?') tokens.push('one');
    else if (character === '[') {
      const { token, end } = parseSet(characters, at, pattern);
      tokens.push(token);
      at = end;
    } else {
      if (character === '\\') at += 1;
      const itself = characters[at];
      if (itself === undefined) throw invalid(pattern, 'ends with a backslash');
      tokens.push({ isNegated: false, ranges: [[itself, itself]] });
    }
  }
  return tokens;
}

/** A `]` right after the start is one of the set, as in sh(1). */
function parseSet(
  characters: readonly string[],
  start: number,
  pattern: string,
): { token: Token; end: number } {
  let at = start + 1;
  const isNegated = characters[at] === '!' || characters[at] === '^';
  if (isNegated) at += 1;
  const ranges: [string, string][] = [];
  for (const first = at; characters[at] !== ']' || at === first; at += 1) {
    const low = characters[at];
    if (low === undefined) throw invalid(pattern, 'has a "[" without its "]"');
    const high = characters[at + 1] === '-' && characters[at + 2] !== ']' ? characters[at + 2] : undefined;
    ranges.push([low, high ?? low]);
    if (high !== undefined) at += 2;
  }
  return { token: { isNegated, ranges }, end: at };
}

function matches(tokens: readonly Token[], text: readonly string[]): boolean {
  let token = 0;
  let at = 0;
  // where to go on when the last `*` has to take one character more
  let star = -1;
  let starAt = 0;
  while (at < text.length) {
    const here = tokens[token];
    if (here === 'any') {
      star = token;
      starAt = at;
      token += 1;
    } else if (here !== undefined && (here === 'one' || isIn(here, text[at] ?? ''))) {
      token += 1;
      at += 1;
    } else {
      if (star < 0) return false;
      token = star + 1;
      starAt += 1;
      at = starAt;
    }
  }
  while (tokens[token] === 'any') token += 1;
  return token === tokens.length;
}

const isIn = ({ isNegated, ranges }: Exclude<Token, string>, character: string): boolean =>
  ranges.some(([low, high]) => low <= character && character <= high) !== isNegated;
