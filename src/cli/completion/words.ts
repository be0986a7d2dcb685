import type { Command, Option } from 'commander';

/** Options whose value is a place on this machine. */
const FILE_VALUE = /<(dir|file|path)/;

export interface Verb {
  /** As it is typed, `` for the program itself. */
  readonly name: string;
  readonly command: Command;
}

export const verbsOf = (command: Command, name = ''): Verb[] => [
  { name, command },
  ...command.commands.flatMap((child) => verbsOf(child, `${name} ${child.name()}`.trim())),
];
export const flagsOf = (option: Option): string[] =>
  [option.short, option.long].filter((flag) => flag !== undefined);
export const takesValue = (option: Option): boolean => option.required || option.optional;
export const takesFile = (option: Option): boolean => FILE_VALUE.test(option.flags);
export const unique = (words: readonly string[]): string[] => [...new Set(words)].toSorted();

/** Options of the program itself may follow any verb. */
export const optionsOf = ({ command }: Verb, program: Command): Option[] => [
  ...command.options,
  ...(command === program ? [] : program.options),
];

/** What the arguments of a verb may be, where that is fixed. */
export const choicesOf = ({ command }: Verb): string[] =>
  command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
