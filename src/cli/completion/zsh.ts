import type { Command, Option } from 'commander';
import { choicesOf, flagsOf, optionsOf, takesFile, takesValue, unique, type Verb, verbsOf } from './words.ts';

/** Between single quotes; in a list of `_describe` a colon ends the word. */
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
const described = (word: string, text: string) =>
  quoted(`${word.replaceAll(':', '\\:')}:${text.replaceAll('\n', ' ')}`);
const patterns = (words: readonly string[]): string => unique(words).map(quoted).join('|');

/** For a folder of `fpath`, or for `source`. */
export function zshCompletion(program: Command): string {
  const name = program.name();
  const routine = `_${name.replaceAll('-', '_')}`;
  const verbs = verbsOf(program);
  const values = verbs.flatMap(({ command }) => command.options).filter(takesValue);
  const files = values.filter(takesFile).flatMap(flagsOf);
  return `#compdef ${name}
# zsh completion for ${name}: _${name} in a folder of fpath, or: source <(${name} completion zsh)
${routine}() {
  local previous="\${words[CURRENT - 1]}" verb='' word='' skip=''
  local -i i
  local -a offers
  for ((i = 2; i < CURRENT; i += 1)); do
    word="\${words[i]}"
    if [[ -n "$skip" ]]; then skip=''; continue; fi
    case "$word" in
      ${patterns(values.flatMap(flagsOf))}) skip=1 ;;
      *) case "\${verb:+$verb }$word" in
        ${patterns(verbs.slice(1).map((verb) => verb.name))}) verb="\${verb:+$verb }$word" ;;
      esac ;;
    esac
  done
  if [[ -n "$skip" ]]; then
    case "$verb $previous" in
${verbs.flatMap((verb) => verb.command.options.flatMap((option) => choiceCase(verb, option))).join('\n')}
      ${patterns(files).replaceAll(/'(-[^']*)'/g, "*' $1'")}) _files; return ;;
      *) return ;;
    esac
    compadd -- $offers
    return
  fi
  case "$verb" in
${verbs.map((verb) => `    ${quoted(verb.name)}) offers=(${wordsOf(verb, program).join(' ')}) ;;`).join('\n')}
  esac
  # options only for who began one: a list of verbs is short enough to read
  if [[ "\${words[CURRENT]}" != -* ]]; then
    local -a plain=(\${offers:#-*})
    if ((\${#plain})); then offers=($plain); fi
  fi
  _describe -V ${quoted(name)} offers
}
# called by the completion system when it loads this from fpath
if [[ "\${funcstack[1]}" = _${name} ]]; then ${routine} "$@"; else
  (($+functions[compdef])) || { autoload -Uz compinit && compinit; }
  compdef ${routine} ${name}
fi
`;
}

function choiceCase(verb: Verb, option: Option): string[] {
  if (option.argChoices === undefined) return [];
  // an option of the program itself may follow any verb
  const places = flagsOf(option).map((flag) => (verb.name === '' ? `*' ${flag}'` : `'${verb.name} ${flag}'`));
  return [`      ${places.join('|')}) offers=(${option.argChoices.map(quoted).join(' ')}) ;;`];
}

const wordsOf = (verb: Verb, program: Command): string[] => [
  ...verb.command.commands.map((child) => described(child.name(), child.description())),
  ...choicesOf(verb).map(quoted),
  ...optionsOf(verb, program).map((option) => described(option.long ?? option.flags, option.description)),
  described('--help', 'what can be said here'),
];
