import { OWNER_VARIABLE } from '../base/process/owned-processes.ts';
import { run } from '../base/process/run.ts';
import { hasCode, SendenseError, toSendenseError } from '../base/sendense-error.ts';

interface HookRequest {
  readonly hook: 'before' | 'after';
  readonly command: string;
  readonly vm: string;
  readonly backupId: string;
  readonly timeoutMs: number;
  /** Further variables of its environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/**
 * Runs an operator's command with the shell, as it was typed. It learns the machine and the backup from its
 * environment.
 * @throws HOOK_FAILED, CANCELLED
 */
export async function runHook(request: HookRequest): Promise<void> {
  try {
    await run('/bin/sh', ['-c', request.command], {
      timeoutMs: request.timeoutMs,
      // a service that the command starts is not ours to clean up
      env: {
        [OWNER_VARIABLE]: undefined,
        SENDENSE_VM: request.vm,
        SENDENSE_BACKUP_ID: request.backupId,
        SENDENSE_HOOK: request.hook,
        ...request.env,
      },
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    });
  } catch (error) {
    if (hasCode(error, 'CANCELLED')) throw error;
    throw new SendenseError(
      'HOOK_FAILED',
      { hook: request.hook, vm: request.vm, detail: whyOf(toSendenseError(error)) },
      error,
    );
  }
}

/** In one line and without a full stop: it stands inside a sentence. */
function whyOf(error: SendenseError): string {
  const { outcome, detail, seconds } = error.fields;
  if (error.code === 'TOOL_TIMEOUT') return `it did not finish within ${seconds} s`;
  const text = error.code === 'TOOL_FAILED' ? `${outcome}, ${detail}` : error.message;
  return text.replace(/\s*\n\s*/g, ' ').replace(/[.\s]+$/, '');
}
