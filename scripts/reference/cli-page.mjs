// docs/cli.md: what `sendense-ctl --help` and the helps of all its commands say, on one page.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { errorCodes } from '../../dist/base/error-codes.js';
import { createProgram } from '../../dist/cli/program.js';
import { commandRoles } from './command-roles.mjs';
import { cell, table } from './write-or-check.mjs';

const exits = {
  0: 'done',
  1: 'failed: an error in Sendense itself, or all machines of a run of a policy failed',
  2: 'usage: unknown option, invalid value or configuration',
  3: 'partly done: some machines of a run of a policy failed',
  4: '`status`: somebody should look, though the command itself went well',
  10: 'not found',
  11: 'busy; the same command may succeed later',
  12: 'not allowed',
  13: 'conflict with what is there',
  20: 'data is corrupt',
  21: 'environment or tool: daemon away, disk full, program missing',
  124: 'timeout',
  130: 'interrupted or cancelled',
};

const sentence = (text) => (text === '' ? '' : `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`);

function defaultOf({ defaultValue, defaultValueDescription, negate }) {
  if (defaultValueDescription !== undefined) return defaultValueDescription;
  const isNone = defaultValue === undefined || (Array.isArray(defaultValue) && defaultValue.length === 0);
  return isNone || negate || defaultValue === '' ? '' : `\`${defaultValue}\``;
}

const optionRow = (option) => [
  `\`${option.flags.replaceAll('|', '\\|')}\``,
  [
    cell(option.description),
    option.argChoices === undefined ? '' : `(${option.argChoices.map((one) => `\`${one}\``).join(', ')})`,
    option.mandatory ? '**needed**' : '',
  ]
    .filter((part) => part !== '')
    .join(' '),
  defaultOf(option),
];

const usage = (command, path) =>
  [path, ...command.registeredArguments.map((one) => (one.required ? `<${one.name()}>` : `[${one.name()}]`)), command.options.length > 0 ? '[options]' : '']
    .filter((part) => part !== '')
    .join(' ');

/** A command that does something by itself, and then those below it. */
function commandText(command, path, roleOf) {
  const children = command.commands.map((child) => commandText(child, `${path} ${child.name()}`, roleOf));
  // commander keeps the action there; a mere group has none
  if (command._actionHandler === null) return children.join('');
  const args = command.registeredArguments
    .filter((one) => one.description !== '')
    .map((one) => [`\`${one.name()}\``, `${cell(one.description)}${one.argChoices === undefined ? '' : ` (${one.argChoices.map((value) => `\`${value}\``).join(', ')})`}`]);
  const role = roleOf(path);
  const own = `### ${path}\n\n\`sendense-ctl ${usage(command, path)}\`\n\n${sentence(command.description())}\n\n${role === '' ? '' : `${role}\n\n`}`;
  return [own, table(['argument', 'meaning'], args), table(['option', 'meaning', 'default'], command.options.map(optionRow)), ...children].join('');
}

function helpOf(program) {
  const text = execFileSync(fileURLToPath(new URL(`../../bin/${program}`, import.meta.url)), ['--help'], {
    encoding: 'utf8',
    env: { ...process.env, COLUMNS: '80', NO_COLOR: '1' },
  });
  return `### ${program}\n\n\`\`\`\n${text.trimEnd()}\n\`\`\`\n\n`;
}

export async function cliPage() {
  const roleOf = await commandRoles();
  const program = createProgram('');
  const codes = Object.entries(errorCodes);
  const of = (exit) => codes.filter(([, entry]) => entry.exit === Number(exit)).map(([code]) => code);
  for (const [, entry] of codes) if (!(entry.exit in exits)) throw new Error(`the exit code ${entry.exit} has no text`);
  const exitRows = Object.entries(exits).map(([exit, text]) => {
    const names = of(exit);
    const some = names.slice(0, 4).map((code) => `\`${code}\``);
    return [exit, text, names.length > 4 ? `${some.join(', ')} … (${names.length})` : some.join(', ')];
  });
  const groups = program.commands.map(
    (command) => `## ${command.name()}\n\n${command._actionHandler === null ? `${sentence(command.description())}\n\n` : ''}${commandText(command, command.name(), roleOf)}`,
  );
  const globals = program.options.filter((option) => option.long !== '--version');
  return `# Commands and options

Generated from the commands themselves by \`node scripts/generate-reference.mjs\`; do not edit. What each answers with \`-o json\` is in
[cli-json.md](cli-json.md), what a code in parentheses means in [errors.md](errors.md), what to do with all this in [operations.md](operations.md).

Over TCP a command needs a token with the role that is named below it, or a stronger one: \`viewer\`, \`restore\`, \`operator\`, \`admin\`; it comes from the routes that the command uses
([access.md](access.md)). Whoever follows a job needs \`viewer\`, who cancels one with Ctrl-C \`restore\`. Over the unix socket everything is allowed.

Groups: ${program.commands.map((command) => `[${command.name()}](#${command.name()})`).join(' · ')} · [other programs](#other-programs)

## Options of every command

They may stand before the command or behind it.

${table(['option', 'meaning', 'default'], globals.map(optionRow))}## Exit codes

${table(['exit', 'meaning', 'errors'], exitRows)}${groups.join('')}## Other programs

${['sendensed', 'sendense-agent', 'sendense-mountd'].map(helpOf).join('').trimEnd()}
`;
}
