import { z } from 'zod';

type Issue = z.core.$ZodIssue;

/** So many problems are told; the rest is counted. */
const MAX_TOLD = 3;
/** Longest value that is repeated, in characters. */
const MAX_SHOWN = 60;

const typeNames: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

/**
 * Parses what came from outside.
 * @param whole what the value is as a whole, as in `the body`
 * @param invalid makes the error from sentences that name the field, what came and what is allowed
 */
export function parseInput<T>(
  schema: z.ZodType<T>,
  value: unknown,
  whole: string,
  invalid: (detail: string) => Error,
): T {
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const { issues } = parsed.error;
  const told = issues.slice(0, MAX_TOLD).map((issue) => sentence(schema, issue, whole));
  const rest = issues.length - told.length;
  throw invalid([...told, ...(rest > 0 ? [`${rest} more are wrong`] : [])].join('. '));
}

function sentence(schema: z.ZodType, issue: Issue, whole: string): string {
  const deeper = optionMeant(issue);
  if (deeper) return sentence(schema, deeper, whole);
  const place = placeOf(issue.path);
  const field = place === '' ? whole : place;
  if (issue.code === 'unrecognized_keys') {
    const names = issue.keys.map((key) => quoted(key)).join(', ');
    const known = fieldsAt(schema, issue.path);
    return `${field} has no ${names}; ${known.length === 0 ? 'leave it out' : `it may have ${known.join(', ')}`}`;
  }
  const input =
    'discriminator' in issue && issue.discriminator !== undefined
      ? memberOf(issue.input, issue.discriminator)
      : issue.input;
  const came = input === undefined ? 'is missing' : `is ${shown(input)}`;
  // a refinement says itself what is wrong
  if (issue.code === 'custom') return `${field} ${came}: ${issue.message}`;
  return `${field} ${came}; it must ${allowed(issue)}`;
}

function allowed(issue: Issue): string {
  // a schema's own message says it better
  if (issue.message !== '' && !/^(Invalid|Too|Unrecognized)/.test(issue.message))
    return `be ${issue.message}`;
  switch (issue.code) {
    case 'invalid_type':
      return `be ${typeNames[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      return `be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`;
    case 'too_small':
      return limited(issue.origin, 'at least', issue.minimum, issue.inclusive ?? true);
    case 'too_big':
      return limited(issue.origin, 'at most', issue.maximum, issue.inclusive ?? true);
    case 'invalid_format':
      return issue.pattern === undefined ? `be ${issue.format}` : `match ${issue.pattern}`;
    case 'invalid_union': {
      if ('options' in issue) return `be one of ${issue.options.map(String).join(', ')}`;
      const ways = issue.errors.flatMap(([first]) => (first ? [allowed(first)] : []));
      return [...new Set(ways)].join(' or ').replaceAll(' or be ', ' or ');
    }
    case 'not_multiple_of':
      return `be a multiple of ${issue.divisor}`;
    default:
      return `be valid: ${issue.message}`;
  }
}

function limited(origin: string, least: string, limit: number | bigint, inclusive: boolean): string {
  const bound = inclusive ? `${least} ${limit}` : `${least === 'at least' ? 'more' : 'less'} than ${limit}`;
  if (origin === 'string') return `have ${bound} ${limit === 1 ? 'character' : 'characters'}`;
  if (origin === 'array') return `have ${bound} ${limit === 1 ? 'entry' : 'entries'}`;
  return `be ${bound}`;
}

/** Of a union, the one problem inside the option that fits the rest; null when no option is nearer than another. */
function optionMeant(issue: Issue): Issue | null {
  if (issue.code !== 'invalid_union') return null;
  const inside = issue.errors.filter((option) => option.every((problem) => problem.path.length > 0));
  const [first] = inside[0] ?? [];
  return inside.length === 1 && first ? { ...first, path: [...issue.path, ...first.path] } : null;
}

const memberOf = (value: unknown, name: string): unknown =>
  value !== null && typeof value === 'object'
    ? Object.entries(value).find(([key]) => key === name)?.[1]
    : value;

const placeOf = (path: readonly PropertyKey[]): string =>
  path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');

const quoted = (text: string): string => {
  const cut = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
  // nothing that moves the reader's cursor or turns the text around
  return JSON.stringify(cut).replace(/\p{C}/gu, '?');
};

function shown(value: unknown): string {
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  return value !== null && typeof value === 'object' ? 'an object' : String(value);
}

/** The fields that an object inside the schema may have; none when it is not a plain object there. */
function fieldsAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault
  )
    return fieldsAt(schema.unwrap(), path);
  const [part, ...rest] = path;
  if (schema instanceof z.ZodArray && part !== undefined) return fieldsAt(schema.element, rest);
  if (!(schema instanceof z.ZodObject)) return [];
  if (part === undefined) return Object.keys(schema.shape);
  const inner = schema.shape[String(part)];
  return inner === undefined ? [] : fieldsAt(inner, rest);
}
