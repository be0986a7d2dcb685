import type { Command } from 'commander';

/** `help backup start`, to any depth: the one that comes with commander knows only its own level. */
export function helpCommand(program: Command): void {
  program
    .command('help [command...]')
    .description('the help of a command, as in: help backup start')
    .action((names: string[], _options, help: Command) => {
      let found = program;
      for (const name of names) {
        const next = found.commands.find((one) => one.name() === name || one.aliases().includes(name));
        if (next === undefined)
          help.error(
            `error: unknown command '${names.join(' ')}'; there are: ${found.commands.map((one) => one.name()).join(', ')}`,
          );
        else found = next;
      }
      found.help();
    });
}
