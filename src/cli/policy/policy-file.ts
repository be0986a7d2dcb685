import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { type Document, isMap, isPair, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';

interface PolicyFile {
  readonly policies: unknown;
  /** The same error, with file and line when it names a field of a policy. */
  withLine(error: unknown): unknown;
}

/** What `policy list -o yaml` says beside the policy itself; its output is a file, too. */
const onlyShown = ['since', 'machine_count', 'absent'];

/** @throws POLICY_INVALID with the line. YAML is a superset of JSON: both are read alike. */
export async function readPolicyFile(file: string): Promise<PolicyFile> {
  const name = file === '-' ? 'the file on stdin' : file;
  const text = await (file === '-'
    ? buffer(process.stdin).then((bytes) => bytes.toString('utf8'))
    : readFile(file, 'utf8')
  ).catch((error: unknown) => {
    throw invalid(name, messageOf(error));
  });
  return parsePolicyFile(name, text);
}

/** Pure. @throws POLICY_INVALID */
export function parsePolicyFile(name: string, text: string): PolicyFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const [fault] = document.errors;
  if (fault !== undefined) throw invalid(name, fault.message.trimEnd());
  const content: unknown = document.toJS();
  const hasPolicies = content !== null && typeof content === 'object' && 'policies' in content;
  if (!hasPolicies) throw invalid(name, 'it must have a list "policies:"');
  const others = Object.keys(content).filter((key) => key !== 'policies');
  if (others.length > 0) throw invalid(name, `it has "${others[0]}"; only "policies:" is known`);
  return {
    policies: Array.isArray(content.policies) ? content.policies.map(withoutShown) : content.policies,
    withLine: (error) => {
      const detail = hasCode(error, 'REQUEST_INVALID') ? (error as SendenseError).fields['detail'] : null;
      const place = typeof detail === 'string' ? placeIn(document, detail) : null;
      if (place === null) return error;
      const told = `${name}: line ${lines.linePos(place).line}: ${detail}`;
      return new SendenseError('REQUEST_INVALID', { detail: told });
    },
  };
}

const invalid = (name: string, detail: string) =>
  new SendenseError('POLICY_INVALID', { detail: `${name}: ${detail}` });

const withoutShown = (policy: unknown): unknown =>
  policy === null || typeof policy !== 'object' || Array.isArray(policy)
    ? policy
    : Object.fromEntries(Object.entries(policy).filter(([key]) => !onlyShown.includes(key)));

/** Where that stands of which a message like `policies[1].verify has no "percnt"` speaks; null: of nothing here. */
function placeIn(document: Document, detail: string): number | null {
  const path = /^policies((?:\[\d+\]|\.\w+)*)/.exec(detail)?.[1];
  if (path === undefined) return null;
  const steps = ['policies', ...(path.match(/\w+/g) ?? [])];
  const unknown = / has no "([^"]+)"/.exec(detail)?.[1];
  let node: unknown = document.contents;
  let place: number | null = null;
  for (const step of unknown === undefined ? steps : [...steps, unknown]) {
    const next = below(node, step);
    if (next === null) break;
    ({ node } = next);
    place = next.place ?? place;
  }
  return place;
}

function below(node: unknown, step: string): { node: unknown; place: number | null } | null {
  if (isSeq(node)) {
    const item = node.items[Number(step)];
    return item === undefined ? null : { node: item, place: startOf(item) };
  }
  if (!isMap(node)) return null;
  const pair = node.items.find((one) => isPair(one) && String(one.key) === step);
  return pair === undefined ? null : { node: pair.value, place: startOf(pair.key) };
}

const startOf = (node: unknown): number | null => (node as Node | null)?.range?.[0] ?? null;
