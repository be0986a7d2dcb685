import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createProgram } from '../program.ts';
import { completionScript } from './completion.ts';

/** What bash offers at the end of this line. */
function offered(...words: string[]): string[] {
  const script = `set -u
${completionScript(createProgram('0.0.0'), 'bash')}
COMP_WORDS=(sendense-ctl "$@")
COMP_CWORD=$#
COMPREPLY=()
_sendense_ctl
printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['-c', script, 'bash', ...words], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line !== '');
}

test('bash takes it for complete', () => {
  const script = `${completionScript(createProgram('0.0.0'), 'bash')}\ncomplete -p sendense-ctl`;
  expect(execFileSync('bash', ['-c', script], { encoding: 'utf8' })).toBe(
    'complete -F _sendense_ctl sendense-ctl\n',
  );
});

test.each<[string[], string[]]>([
  [['rep'], ['repository']],
  [
    ['repository', ''],
    [
      '--ca',
      '--fingerprint',
      '--format',
      '--help',
      '--home',
      '--token-file',
      '--url',
      '--version',
      'add',
      'attach',
      'detach',
      'list',
      'orphans',
      'rebuild',
      'remove',
      'set',
      'show',
      'test',
    ],
  ],
  [['backup', 'st'], ['start']],
  [
    ['backup', 'start', '--v'],
    ['--version', '--vm'],
  ],
  [
    ['backup', 'start', '--type', ''],
    ['full', 'incremental', 'differential'],
  ],
  [['backup', 'start', '--type', 'd'], ['differential']],
  [
    ['--home', '/srv', 'job', 'list', '--status', 'c'],
    ['completed', 'cancelled'],
  ],
  [['job', 'list', '-o', 'j'], ['json']],
  [
    ['restore', 'disk', '--as', ''],
    ['raw', 'qcow2', 'vmdk', 'vhdx'],
  ],
  // a value that looks like a verb is none
  [['--home', 'vm', 'backup', 'sh'], ['show']],
  [['backup', 'start', '--vm', ''], []],
  [['vm', 'add', 'web1', '--disk', '/etc/host'], expect.arrayContaining(['/etc/hostname', '/etc/hosts'])],
  [['completion', 'z'], ['zsh']],
])('%j is completed', (words, wanted) => {
  expect(offered(...words)).toEqual(wanted);
});

/** What the real zsh offers at the end of this line: completed at a terminal of its own, as somebody types it. */
function offeredByZsh(line: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'sd-zsh-'));
  try {
    writeFileSync(join(folder, '_sendense-ctl'), completionScript(createProgram('0.0.0'), 'zsh'));
    // one key puts the line there, lists what may follow and says that this is all
    const driver = `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1= PROMPT= fpath=(${folder} $fpath) LISTMAX=1000; stty rows 200 columns 200 -echo; autoload -Uz compinit; compinit -u -D"
zpty -w shell 'probe() { BUFFER=$asked CURSOR=\${#asked}; zle list-choices; zle -R; print -r -- "END-$((6*7))" }; zle -N probe; bindkey Q probe'
zpty -w shell "asked=\${(q)1}; print READY-\\$((6*7))"
zpty -r shell seen '*READY-42*'
zpty -w -n shell Q
zpty -r shell seen '*END-42*'
print -r -- "$seen"
zpty -d shell`;
    return execFileSync('zsh', ['-f', '-c', driver, 'zsh', line], { encoding: 'utf8', timeout: 30_000 });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test.each([
  ['sendense-ctl backup st', ['start'], ['chain']],
  ['sendense-ctl repository ', ['rebuild', 'attach', 'orphans'], ['start']],
  ['sendense-ctl backup start --v', ['--vm', '--version'], ['--wait']],
  ['sendense-ctl backup start --type ', ['full', 'incremental', 'differential'], ['--wait']],
  ['sendense-ctl --home vm backup sh', ['show'], ['start']],
])('zsh completes "%s"', (line, wanted, unwanted) => {
  const shown = offeredByZsh(line).replaceAll(line, '');
  for (const word of wanted) expect(shown).toContain(word);
  for (const word of unwanted) expect(shown).not.toContain(word);
});

test('zsh takes it from source too', () => {
  const script = `autoload -Uz compinit; compinit -u -D; ${completionScript(createProgram('0.0.0'), 'zsh')}\nprint $_comps[sendense-ctl]`;
  expect(execFileSync('zsh', ['-f', '-c', script], { encoding: 'utf8' })).toBe('_sendense_ctl\n');
});

/** What the real fish offers at the end of this line. */
function offeredByFish(line: string): string[] {
  const home = mkdtempSync(join(tmpdir(), 'sd-fish-'));
  try {
    writeFileSync(join(home, 'sendense-ctl.fish'), completionScript(createProgram('0.0.0'), 'fish'));
    const script = 'source $argv[1]; complete --do-complete $argv[2]';
    const said = execFileSync('fish', ['-N', '-c', script, join(home, 'sendense-ctl.fish'), line], {
      encoding: 'utf8',
      cwd: home,
      env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_DATA_HOME: home },
    });
    return said.split('\n').flatMap((offer) => offer.split('\t')[0] || []);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

test.each<[string, string[]]>([
  ['sendense-ctl backup st', ['start']],
  ['sendense-ctl rep', ['repository']],
  ['sendense-ctl repository a', ['add', 'attach']],
  ['sendense-ctl backup start --v', ['--version', '--vm']],
  ['sendense-ctl backup start --type ', ['differential', 'full', 'incremental']],
  ['sendense-ctl --home vm backup sh', ['show']],
  ['sendense-ctl backup start --vm ', []],
  ['sendense-ctl job list -o j', ['json']],
  ['sendense-ctl vm add web1 --disk sendense-ctl.f', ['sendense-ctl.fish']],
  ['sendense-ctl completion ', ['bash', 'fish', 'zsh']],
])('fish completes "%s"', (line, wanted) => {
  expect(offeredByFish(line).toSorted()).toEqual(wanted);
});
