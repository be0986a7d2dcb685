import type { Command, Option } from 'commander';
import { choicesOf, flagsOf, takesFile, takesValue, unique, type Verb, verbsOf } from './words.ts';

const quoted = (text: string) =>
  `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', ' ')}'`;
const lines = (all: readonly string[]) => all.join('\n');

/** For a folder of `fish_complete_path`, or for `source`. */
export function fishCompletion(program: Command): string {
  const name = program.name();
  const routine = `__${name.replaceAll('-', '_')}_at`;
  const verbs = verbsOf(program);
  const values = unique(
    verbs
      .flatMap(({ command }) => command.options)
      .filter(takesValue)
      .flatMap(flagsOf),
  );
  return `# fish completion for ${name}: ${name}.fish in a folder of completions, or: ${name} completion fish | source
function ${routine} --description 'true behind exactly this verb'
  set -l verb
  set -l skip
  for word in (commandline -opc)[2..-1]
    if test -n "$skip"
      set skip
    else if contains -- $word ${values.join(' ')}
      set skip yes
    else if contains -- "$(string join ' ' $verb $word)" ${lines(verbs.slice(1).map((verb) => quoted(verb.name))).replaceAll('\n', ' ')}
      set -a verb $word
    end
  end
  test "$(string join ' ' $verb)" = "$argv[1]"
end
complete -c ${name} -f
${lines(verbs.flatMap((verb) => verbLines(name, `'${routine} ${quoted(verb.name).replaceAll("'", '"')}'`, verb)))}
`;
}

function verbLines(name: string, condition: string, verb: Verb): string[] {
  const { command } = verb;
  // what belongs to the program itself may stand behind any verb
  const when = verb.name === '' ? '' : ` -n ${condition}`;
  return [
    ...command.commands.map(
      (child) => `complete -c ${name} -n ${condition} -a ${child.name()} -d ${quoted(child.description())}`,
    ),
    ...choicesOf(verb).map((choice) => `complete -c ${name} -n ${condition} -a ${quoted(choice)}`),
    ...command.options.map(
      (option) => `complete -c ${name}${when}${optionWords(option)} -d ${quoted(option.description)}`,
    ),
    ...(verb.name === '' ? [`complete -c ${name} -l help -d 'what can be said here'`] : []),
  ];
}

function optionWords(option: Option): string {
  const short = option.short === undefined ? '' : ` -s ${option.short.slice(1)}`;
  const long = option.long === undefined ? '' : ` -l ${option.long.slice(2)}`;
  if (!takesValue(option)) return short + long;
  if (option.argChoices !== undefined) return `${short}${long} -x -a ${quoted(option.argChoices.join(' '))}`;
  return `${short}${long} ${takesFile(option) ? '-rF' : '-x'}`;
}
