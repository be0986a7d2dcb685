/** Whose machines a policy means. A machine is meant when one of the ways names it and no exception does. */
export interface MachineSelector {
  readonly names: readonly string[];
  /** Names with `*` for any characters and `?` for one. */
  readonly patterns: readonly string[];
  /** All of them must be on the machine; none: no machine is chosen this way. */
  readonly labels: Readonly<Record<string, string>>;
  /** Patterns of names that are left out. */
  readonly except: readonly string[];
}

export interface SelectableMachine {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** A test for machines; made once and used for thousands. Pure. */
export function selects(selector: MachineSelector): (machine: SelectableMachine) => boolean {
  const names = new Set(selector.names);
  const patterns = selector.patterns.map(nameTest);
  const except = selector.except.map(nameTest);
  const labels = Object.entries(selector.labels);
  return (machine) => {
    if (except.some((isMeant) => isMeant(machine.name))) return false;
    if (names.has(machine.name) || patterns.some((isMeant) => isMeant(machine.name))) return true;
    return labels.length > 0 && labels.every(([key, value]) => machine.labels[key] === value);
  };
}

/** Goes back to the last star only, so that no pattern takes long. */
function nameTest(pattern: string): (name: string) => boolean {
  return (name) => {
    let at = 0;
    let place = 0;
    let star = -1;
    let starPlace = 0;
    while (place < name.length) {
      if (pattern[at] === '*') {
        star = at;
        starPlace = place;
        at += 1;
      } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === name[place])) {
        at += 1;
        place += 1;
      } else if (star >= 0) {
        starPlace += 1;
        place = starPlace;
        at = star + 1;
      } else return false;
    }
    while (pattern[at] === '*') at += 1;
    return at === pattern.length;
  };
}
