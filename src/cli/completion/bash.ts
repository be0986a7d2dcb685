import type { Command, Option } from 'commander';
import { choicesOf, flagsOf, optionsOf, takesFile, takesValue, unique, type Verb, verbsOf } from './words.ts';

const patterns = (words: readonly string[]): string => unique(words).join(' | ');

/** For `/usr/share/bash-completion/completions`, or for `source`. */
export function bashCompletion(program: Command): string {
  const name = program.name();
  const routine = `_${name.replaceAll('-', '_')}`;
  const verbs = verbsOf(program);
  const options = verbs.flatMap(({ command }) => command.options).filter(takesValue);
  const choices = verbs.flatMap((verb) =>
    verb.command.options.flatMap((option) =>
      option.argChoices === undefined ? [] : [choiceCase(verb, option, option.argChoices)],
    ),
  );
  const files = options.filter(takesFile).flatMap(flagsOf);
  return `# bash completion for ${name}; load it with: source <(${name} completion bash)
${routine}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}"
  local verb='' offers='' word='' skip='' i
  for ((i = 1; i < COMP_CWORD; i += 1)); do
    word="\${COMP_WORDS[i]}"
    if [ -n "$skip" ]; then skip=''; continue; fi
    case "$word" in
      ${patterns(options.flatMap(flagsOf))}) skip=1 ;;
      *) case "$verb $word" in
        ${patterns(verbs.slice(1).map((verb) => `'${verb.name.includes(' ') ? '' : ' '}${verb.name}'`))}) verb="\${verb:+$verb }$word" ;;
      esac ;;
    esac
  done
  case "$verb $previous" in
${choices.join('\n')}
    ${patterns(files.map((flag) => `*' ${flag}'`))})
      local IFS=$'\\n'
      COMPREPLY=($(compgen -f -- "$current"))
      return ;;
    ${patterns(options.flatMap(flagsOf).map((flag) => `*' ${flag}'`))}) return ;;
    *) case "$verb" in
${verbs.map((verb) => `      '${verb.name}') offers='${wordsOf(verb, program).join(' ')}' ;;`).join('\n')}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$offers" -- "$current"))
}
complete -F ${routine} ${name}
`;
}

/** Options of the program itself may follow any verb. */
function choiceCase(verb: Verb, option: Option, choices: readonly string[]): string {
  const places = flagsOf(option).map((flag) => (verb.name === '' ? `*' ${flag}'` : `'${verb.name} ${flag}'`));
  return `    ${places.join(' | ')}) offers='${choices.join(' ')}' ;;`;
}

function wordsOf(verb: Verb, program: Command): string[] {
  const options = optionsOf(verb, program).flatMap((option) => option.long ?? []);
  return unique([
    ...verb.command.commands.map((child) => child.name()),
    ...choicesOf(verb),
    ...options,
    '--help',
  ]);
}
