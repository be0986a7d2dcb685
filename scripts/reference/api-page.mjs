// docs/api.md: the OpenAPI document as a page to read. The routes are asked for without an appliance: to define them
// calls nothing of it, only their handlers do.
import { globSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { openApiDocument } from '../../dist/api/openapi.js';
import { cell, table } from './write-or-check.mjs';

const folder = fileURLToPath(new URL('../../dist/api/routes/', import.meta.url));

/** In place of all that routes depend on. */
const nothing = new Proxy(() => undefined, {
  get: (_target, key) => (key === Symbol.toPrimitive ? () => '' : nothing),
  apply: () => nothing,
});

export async function allRoutes() {
  const routes = [];
  for (const file of globSync('**/*-routes.js', { cwd: folder }).toSorted()) {
    const found = Object.entries(await import(pathToFileURL(`${folder}${file}`).href)).filter(([name]) => name.endsWith('Routes'));
    if (found.length === 0) throw new Error(`${file} exports no routes`);
    for (const [, make] of found) routes.push(...make(nothing));
  }
  return routes;
}

/** A type in a few words, and the fields below it when it is an object or a list of them. */
function describe(schema) {
  const variants = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (variants !== undefined) {
    const parts = variants.map(describe);
    const words = [...new Set(parts.map((part) => part.words))].filter((word) => word !== 'null');
    const tail = parts.some((part) => part.words === 'null') ? ' or null' : '';
    return { words: `${words.join(' or ')}${tail}`, fields: parts.flatMap((part) => part.fields), isList: parts.some((part) => part.isList) };
  }
  if (Array.isArray(schema.type)) return describe({ anyOf: schema.type.map((type) => ({ ...schema, type })) });
  if (schema.const !== undefined) return { words: `\`${schema.const}\``, fields: [], isList: false };
  if (schema.enum !== undefined) return { words: schema.enum.map((one) => `\`${one}\``).join(', '), fields: [], isList: false };
  if (schema.type === 'array') {
    const item = describe(schema.items ?? {});
    return { words: `list of ${item.words}`, fields: item.fields, isList: true };
  }
  if (schema.type === 'object' && schema.properties !== undefined) return { words: 'object', fields: fieldsOf(schema), isList: false };
  if (schema.type === 'object') {
    const values = typeof schema.additionalProperties === 'object' ? describe(schema.additionalProperties).words : '';
    return { words: values === '' || values === 'any' ? 'object' : `object of ${values}`, fields: [], isList: false };
  }
  if (schema.type === 'integer' || schema.type === 'number') return { words: numberWords(schema), fields: [], isList: false };
  return { words: schema.type ?? 'any', fields: [], isList: false };
}

function numberWords({ type, minimum, maximum }) {
  const isBound = (value) => value !== undefined && Math.abs(value) < Number.MAX_SAFE_INTEGER;
  if (isBound(minimum) && isBound(maximum)) return `${type}, ${minimum} to ${maximum}`;
  if (isBound(minimum) && minimum !== 0) return `${type}, from ${minimum}`;
  return isBound(maximum) ? `${type}, up to ${maximum}` : type;
}

const fieldsOf = (schema) =>
  Object.entries(schema.properties ?? {}).map(([name, value]) => ({
    name,
    ...describe(value),
    isNeeded: (schema.required ?? []).includes(name),
    initial: value.default,
    about: value.description ?? '',
  }));

const shown = (initial) => (initial === undefined || (Array.isArray(initial) && initial.length === 0) ? '' : `\`${JSON.stringify(initial)}\``);

/** Fields with those below them, as `disks[].layer`. */
function rowsOf(fields, prefix = '') {
  return fields.flatMap((field) => [
    [`\`${prefix}${field.name}\``, cell(field.words), field.isNeeded ? 'yes' : '', shown(field.initial), cell(field.about)],
    ...rowsOf(field.fields, `${prefix}${field.name}${field.isList ? '[]' : ''}.`),
  ]);
}

/** The answer in one line: names of fields, in braces what is below them. */
function outline({ fields, words }) {
  if (fields.length === 0) return words;
  const names = fields.map((field) => `${field.name}${field.isList ? '[]' : ''}${field.fields.length > 0 ? ` ${outline(field)}` : ''}`);
  return `{ ${[...new Set(names)].join(', ')} }`;
}

function operationText(path, method, operation) {
  const parameters = (operation.parameters ?? []).filter((one) => one.in !== 'header');
  const asFields = parameters.map((one) => ({
    name: one.name,
    ...describe(one.schema),
    isNeeded: one.required === true && one.in !== 'path',
    initial: one.schema.default,
    about: [one.in === 'path' ? 'in the path' : 'in the query', one.description ?? one.schema.description ?? ''].filter((part) => part !== '').join('; '),
  }));
  const body = operation.requestBody?.content['application/json'].schema;
  const [status, done] = Object.entries(operation.responses).find(([code]) => code !== 'default');
  const answer = done.content?.['application/json']?.schema;
  const about = operation['x-sendense-about'].join(', ');
  const titles = ['field', 'type', 'needed', 'default', 'meaning'];
  return [
    `### ${method.toUpperCase()} ${path}\n\n${operation.summary}. Role **${operation['x-sendense-role']}**, about: ${about}.\n\n`,
    table(titles, rowsOf(asFields)),
    body === undefined ? '' : `Body:\n\n${table(titles, rowsOf(describe(body).fields)) || 'any JSON object\n\n'}`,
    `Answer ${status}${answer === undefined ? ', empty' : `: \`${outline(describe(answer))}\``}\n\n`,
  ].join('');
}

export async function apiPage() {
  const { paths } = openApiDocument(await allRoutes(), '');
  const operations = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  const groups = Map.groupBy(operations, ({ operation }) => operation.tags[0]);
  const byName = [...groups].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const order = ({ path, method }) => `${path} ${['get', 'post', 'patch', 'delete'].indexOf(method)}`;
  const text = byName.map(([tag, members]) => {
    const sorted = members.toSorted((a, b) => (order(a) < order(b) ? -1 : 1));
    return `## ${tag}\n\n${sorted.map(({ path, method, operation }) => operationText(path, method, operation)).join('')}`;
  });
  return `# The REST API

Generated from the routes by \`node scripts/generate-reference.mjs\`; do not edit. A running daemon has the same with all schemas at
\`/api/v1/openapi.json\`, and as pages to try at \`/api/docs\`. Paths are below \`/api/v1\`.

\`\`\`
curl --unix-socket HOME/run/sendensed.sock http://d/api/v1/vms
curl --cacert own.crt -H "Authorization: Bearer $(cat TOKEN)" https://HOST:8443/api/v1/vms
\`\`\`

- **Roles**: each may what those before it may: viewer, restore, operator, admin. Over the unix socket one is admin. **About**: \`none\`, no machine;
  \`appliance\`, not for tokens of some machines; \`listed\`, shows only machines of the token; else the fields that name the machine. All in one table:
  [access.md](access.md).
- **Errors** are RFC 9457 problem documents (\`application/problem+json\`) with \`code\`, \`detail\`, \`retryable\` and \`fields\`; [errors.md](errors.md) lists all codes
  with their HTTP status. Unknown fields are errors too.
- **Repeats**: a POST with the header \`Idempotency-Key\` is done once, and the same answer is given again.
- Sizes are bytes, times UTC in ISO 8601. Answers may get more fields.

Groups: ${byName.map(([tag]) => `[${tag}](#${tag})`).join(' · ')}

${text.join('').trimEnd()}
`;
}
