import { type SendenseError, toSendenseError } from '../../../base/sendense-error.ts';
import { runHook } from '../../../capture/hooks.ts';
import type { Policy } from '../../../policy/definition/policy.ts';
import type { RunnerDeps } from './runner-deps.ts';

/** Runs the command before or after a run of backups, if the policy has one. @returns why it failed */
export async function runPolicyHook(
  { hookTimeoutMs }: Pick<RunnerDeps, 'hookTimeoutMs'>,
  policy: Policy,
  hook: 'before' | 'after',
): Promise<SendenseError | null> {
  const command = policy.hooks[hook];
  if (command === null) return null;
  try {
    await runHook({
      ...{ hook, command, timeoutMs: hookTimeoutMs, backupId: '' },
      vm: `policy ${policy.name}`,
      env: { SENDENSE_POLICY: policy.name, SENDENSE_VM: '' },
    });
    return null;
  } catch (error) {
    return toSendenseError(error);
  }
}
