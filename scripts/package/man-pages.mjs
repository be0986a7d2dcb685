/** Writes the man pages out of the tables of commands: man-pages.mjs FOLDER VERSION. Needs the build. */
import { writeFileSync } from 'node:fs';
import { agentCommand } from '../../dist/main/agent-command.js';
import { createProgram } from '../../dist/cli/program.js';
import { daemonCommand } from '../../dist/main/daemon-options.js';

const [folder, version] = process.argv.slice(2);

/** Nothing that roff would take for an order of its own. */
const plain = (text) =>
  text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll(/^([.'])/gm, '\\&$1');
const bold = (text) => `\\fB${plain(text)}\\fR`;
const sentence = (text) => plain(text === '' ? '' : `${text[0].toUpperCase()}${text.slice(1).replace(/\.?$/, '.')}`);

const optionLines = (command) =>
  command.options.flatMap((option) => {
    const choices = option.argChoices === undefined ? '' : ` One of ${option.argChoices.join(', ')}.`;
    const value = option.defaultValue;
    const isShown = value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0);
    const usual = isShown ? ` Default: ${value}.` : '';
    return ['.TP', bold(option.flags), sentence(option.description) + plain(choices + usual)];
  });

function verbLines(command, path) {
  const name = `${path} ${command.name()}`;
  if (command.commands.length > 0) return command.commands.flatMap((child) => verbLines(child, name));
  const usage = `${name} ${command.usage()}`.replace('[options] ', '').replace('[options]', '').trim();
  const options = optionLines(command);
  return [
    '.SS',
    plain(usage),
    sentence(command.description()),
    ...options,
  ];
}

const exitCodes = [
  [0, 'it is done'], [1, 'it failed'], [2, 'usage'], [3, 'partly done'], [4, 'somebody should look (status)'],
  [10, 'not found'], [11, 'busy'], [12, 'not allowed'], [13, 'conflict'], [20, 'data is corrupt'],
  [21, 'environment or a tool'], [124, 'out of time'], [130, 'interrupted'],
];

function page({ command, section, files, also }) {
  const name = command.name();
  const verbs = command.commands.filter((child) => child.name() !== 'help');
  const description = command.description();
  return [
    `.TH ${name.toUpperCase().replaceAll('-', '\\-')} ${section} "" "sendense ${version}" "Sendense"`,
    '.SH NAME',
    `${plain(name)} \\- ${plain(description.replace(/\..*$/s, '').replace(/^./, (c) => c.toLowerCase()))}`,
    '.SH SYNOPSIS',
    `${bold(name)} [options]${verbs.length > 0 ? ' COMMAND' : ''}`,
    '.SH DESCRIPTION',
    plain(description),
    '.SH OPTIONS',
    ...optionLines(command),
    ...(verbs.length > 0 ? ['.SH COMMANDS', ...verbs.flatMap((verb) => verbLines(verb, name))] : []),
    '.SH FILES',
    ...files.flatMap(([path, text]) => ['.TP', `\\fI${plain(path)}\\fR`, sentence(text)]),
    '.SH EXIT STATUS',
    ...exitCodes.flatMap(([code, text]) => ['.TP', bold(String(code)), sentence(text)]),
    '.SH SEE ALSO',
    also.map((other) => `\\fB${plain(other.slice(0, -3))}\\fR${other.slice(-3)}`).join(', '),
    '',
  ].join('\n');
}

const pages = [
  {
    command: createProgram(version),
    section: 1,
    files: [['/run/sendense/sendensed.sock', 'where the daemon is asked, without --home and --url']],
    also: ['sendensed(8)', 'sendense-agent(8)'],
  },
  {
    command: daemonCommand(version),
    section: 8,
    files: [
      ['/etc/sendense/sendense.toml', 'settings; an unknown key is an error'],
      ['/var/lib/sendense/', 'the catalogue, keys, and in backups/ the repository local'],
      ['/run/sendense/', 'sockets and logs of tools'],
    ],
    also: ['sendense-ctl(1)', 'sendense-agent(8)', 'qemu-img(1)'],
  },
  {
    command: agentCommand(version),
    section: 8,
    files: [['/var/lib/sendense-agent/', 'keys and settings of the agent']],
    also: ['sendense-ctl(1)', 'sendensed(8)'],
  },
];
for (const one of pages)
  writeFileSync(`${folder}/man${one.section}/${one.command.name()}.${one.section}`, page(one));
