import { Argument, type Command, type Option } from 'commander';

const shells = ['bash', 'zsh'];
/** Options whose value is a place on this machine. */
const FILE_VALUE = /<(dir|file|path)/;

export function completionCommand(program: Command): void {
  program
    .command('completion')
    .description('print a completion script, as in: source <(sendense-ctl completion bash)')
    .addArgument(new Argument('<shell>', 'your shell').choices(shells))
    .action((shell: string) => void process.stdout.write(completionScript(program, shell)));
}

interface Verb {
  /** As it is typed, `` for the program itself. */
  readonly name: string;
  readonly command: Command;
}

const verbsOf = (command: Command, name = ''): Verb[] => [
  { name, command },
  ...command.commands.flatMap((child) => verbsOf(child, `${name} ${child.name()}`.trim())),
];
const flagsOf = (option: Option): string[] =>
  [option.short, option.long].filter((flag) => flag !== undefined);
const takesValue = (option: Option): boolean => option.required || option.optional;
const unique = (words: readonly string[]): string[] => [...new Set(words)].toSorted();
const patterns = (words: readonly string[]): string => unique(words).join(' | ');

/** A script that knows the commands, their options and the values of those that have choices. Pure. */
export function completionScript(program: Command, shell: string): string {
  const name = program.name();
  const routine = `_${name.replaceAll('-', '_')}`;
  const verbs = verbsOf(program);
  const options = verbs.flatMap(({ command }) => command.options).filter(takesValue);
  const choices = verbs.flatMap((verb) =>
    verb.command.options.flatMap((option) =>
      option.argChoices === undefined ? [] : [choiceCase(verb, option, option.argChoices)],
    ),
  );
  const files = options.filter((option) => FILE_VALUE.test(option.flags)).flatMap(flagsOf);
  // bash's own way; zsh learns it from bashcompinit
  const prelude = shell === 'zsh' ? 'autoload -Uz compinit bashcompinit && compinit && bashcompinit\n' : '';
  return `# ${shell} completion for ${name}; load it with: source <(${name} completion ${shell})
${prelude}${routine}() {
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

function wordsOf({ command }: Verb, program: Command): string[] {
  const options = [...command.options, ...program.options].flatMap((option) => option.long ?? []);
  const values = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
  return unique([...command.commands.map((child) => child.name()), ...values, ...options, '--help']);
}
