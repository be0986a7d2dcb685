import { accessCodes } from './error-codes/access.ts';
import { agentCodes } from './error-codes/agents.ts';
import { backupCodes } from './error-codes/backups.ts';
import { jobCodes } from './error-codes/jobs.ts';
import { machineCodes } from './error-codes/machines.ts';
import { mirrorCodes } from './error-codes/mirrors.ts';
import { notifyCodes } from './error-codes/notify.ts';
import { policyCodes } from './error-codes/policies.ts';
import { repositoryCodes } from './error-codes/repositories.ts';
import { requestCodes } from './error-codes/requests.ts';
import { restoreCodes } from './error-codes/restore.ts';
import { toolCodes } from './error-codes/tools.ts';

export type { ErrorCodeEntry } from './error-codes/entry.ts';

/** The one table of everything that can go wrong. `docs/errors.md` is generated from it. */
export const errorCodes = {
  ...requestCodes,
  ...accessCodes,
  ...machineCodes,
  ...agentCodes,
  ...backupCodes,
  ...repositoryCodes,
  ...restoreCodes,
  ...mirrorCodes,
  ...notifyCodes,
  ...jobCodes,
  ...policyCodes,
  ...toolCodes,
} as const;

export type ErrorCode = keyof typeof errorCodes;
