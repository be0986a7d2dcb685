/** A value of LVM's text format. */
export type LvmValue = string | number | readonly LvmValue[] | LvmSection;
export interface LvmSection {
  readonly [name: string]: LvmValue;
}

/** Deeper nesting is nothing that LVM writes. */
const MAX_DEPTH = 8;
const tokenPattern = /\s+|#[^\n]*|("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?)(?![\w.+-])|([\w.+-]+)|([{}[\]=,])/gy;

/**
 * Parses the metadata of a volume group as LVM writes it. The text comes out of a guest.
 * @throws Error with a sentence for anything that it is not
 */
export function parseLvmText(text: string): LvmSection {
  const tokens = tokenize(text);
  const parser = new Parser(tokens);
  const section = parser.section(0);
  if (!parser.isAtEnd) throw new Error('it has a bracket too many');
  return section;
}

function tokenize(text: string): string[] {
  const tokens: string[] = [];
  tokenPattern.lastIndex = 0;
  while (tokenPattern.lastIndex < text.length) {
    const at = tokenPattern.lastIndex;
    const match = tokenPattern.exec(text);
    if (match === null) throw new Error(`character ${at} belongs to nothing`);
    const token = match[1] ?? match[2] ?? match[3] ?? match[4];
    if (token !== undefined) tokens.push(token);
  }
  return tokens;
}

class Parser {
  readonly #tokens: readonly string[];
  #next = 0;

  constructor(tokens: readonly string[]) {
    this.#tokens = tokens;
  }

  get isAtEnd(): boolean {
    return this.#next >= this.#tokens.length;
  }

  section(depth: number): LvmSection {
    if (depth > MAX_DEPTH) throw new Error('it is nested too deep');
    // without a prototype: the names come from outside
    const section: Record<string, LvmValue> = Object.create(null);
    while (!this.isAtEnd && this.#peek() !== '}') {
      const name = this.#take();
      if (!/^[\w.+-]+$/.test(name)) throw new Error(`"${name}" is no name`);
      const kind = this.#take();
      if (kind === '=') section[name] = this.#value();
      else if (kind === '{') {
        section[name] = this.section(depth + 1);
        this.#expect('}');
      } else throw new Error(`after ${name} comes ${kind}`);
    }
    return section;
  }

  #value(): LvmValue {
    const token = this.#take();
    if (token === '[') return this.#list();
    if (token.startsWith('"')) return token.slice(1, -1).replace(/\\(.)/g, '$1');
    const value = Number(token);
    if (Number.isNaN(value)) throw new Error(`"${token}" is no value`);
    return value;
  }

  #list(): LvmValue[] {
    const list: LvmValue[] = [];
    while (this.#peek() !== ']') {
      list.push(this.#value());
      if (this.#peek() === ',') this.#take();
    }
    this.#take();
    return list;
  }

  #peek(): string | undefined {
    return this.#tokens[this.#next];
  }

  #take(): string {
    const token = this.#tokens[this.#next];
    if (token === undefined) throw new Error('it ends too early');
    this.#next += 1;
    return token;
  }

  #expect(wanted: string): void {
    if (this.#take() !== wanted) throw new Error(`a ${wanted} is missing`);
  }
}
