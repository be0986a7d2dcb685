import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { completionScript } from './completion.ts';
import { createProgram } from './program.ts';

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

test('zsh reads the same with its own start', () => {
  expect(completionScript(createProgram('0.0.0'), 'zsh')).toMatch(/^autoload -Uz compinit bashcompinit/m);
});
