import { expect, test } from 'vitest';
import { runHook } from './hooks.ts';

const hook = (command: string, timeoutMs = 10_000) =>
  runHook({ hook: 'after', command, vm: 'web1', backupId: 'backup-web1', timeoutMs });

test('a command learns the machine and the backup', async () => {
  await hook('[ "$SENDENSE_VM $SENDENSE_BACKUP_ID $SENDENSE_HOOK" = "web1 backup-web1 after" ]');
});

test.each([
  ['exit 3', 'exit code 3, it said nothing'],
  ['echo no such table. >&2; exit 1', 'exit code 1, no such table'],
  ['printf "a\\n  b\\n" >&2; exit 1', 'exit code 1, a b'],
  ['kill -9 $$', 'signal SIGKILL, it said nothing'],
])('%s is told in a whole sentence', async (command, why) => {
  await expect(hook(command)).rejects.toMatchObject({
    code: 'HOOK_FAILED',
    message: `The after command of "web1" failed: ${why}.`,
  });
});

test('a command that takes too long is ended', async () => {
  await expect(hook('sleep 20; true', 200)).rejects.toMatchObject({
    message: 'The after command of "web1" failed: it did not finish within 0.2 s.',
  });
});
