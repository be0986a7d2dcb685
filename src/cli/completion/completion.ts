import { Argument, type Command } from 'commander';
import { bashCompletion } from './bash.ts';
import { fishCompletion } from './fish.ts';
import { zshCompletion } from './zsh.ts';

const scripts = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };
type Shell = keyof typeof scripts;

export function completionCommand(program: Command): void {
  program
    .command('completion')
    .description('print a completion script, as in: source <(sendense-ctl completion bash)')
    .addArgument(new Argument('<shell>', 'your shell').choices(Object.keys(scripts)))
    .action((shell: Shell) => void process.stdout.write(completionScript(program, shell)));
}

/** A script that knows the commands, their options and the values of those that have choices. Pure. */
export const completionScript = (program: Command, shell: Shell): string => scripts[shell](program);
