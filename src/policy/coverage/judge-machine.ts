/** What can be wrong with the protection of a machine. */
export const coverageProblems = [
  ...(['unprotected', 'overdue', 'failing', 'never_verified', 'not_mirrored', 'boot_failed'] as const),
] as const;
export type CoverageProblem = (typeof coverageProblems)[number];

export interface Finding {
  readonly problem: CoverageProblem;
  /** Only an alarm changes the exit code of `status`. */
  readonly severity: 'alarm' | 'notice';
  /** One sentence for a person. */
  readonly detail: string;
}

/** What a policy promises its machines as of now. Times in ms since the epoch. */
export interface PolicyPromise {
  readonly policy: string;
  /** Null: it has no schedule of backups. */
  readonly schedule: string | null;
  /** The newest due instant after which there was time enough; null: none since the schedule holds. */
  readonly dueMs: number | null;
}

/** What is known of one machine. */
export interface MachineFacts {
  readonly name: string;
  /** Why it is left without backups on purpose. */
  readonly unprotected: string | null;
  readonly addedMs: number;
  readonly isRunning: boolean;
  readonly promises: readonly (PolicyPromise & {
    /** When its newest good restore point in the policy's repository began. */
    readonly newestMs: number | null;
    /** Mirrors of the policy in which the newest point is not that should be there by now. */
    readonly lacking: readonly string[];
  })[];
  /** Of the newest attempt, when it failed after the newest good point. */
  readonly failure: { readonly count: number; readonly detail: string } | null;
  /** When its oldest restore point began; only looked up when none was verified. */
  readonly oldestMs: number | null;
  readonly verifiedMs: number | null;
  /** The newest test of any of its restore points by booting it. */
  readonly bootTest: {
    readonly backupId: string;
    readonly testedMs: number;
    readonly isPassed: boolean;
    readonly reason: string;
  } | null;
}

/** One round of the scrub at its usual pace takes a month: until then, nobody has failed to look. */
const VERIFY_GRACE_MS = 35 * 24 * 3600 * 1000;

/** Everything that is wrong with one machine; nothing for one that is left out on purpose. Pure. */
export function judgeMachine(facts: MachineFacts, nowMs: number): Finding[] {
  if (facts.unprotected !== null) return [];
  return [
    ...unprotected(facts),
    ...facts.promises.flatMap((promise) => overdue(facts, promise)),
    ...failing(facts),
    ...neverVerified(facts, nowMs),
    ...bootFailed(facts),
    ...facts.promises.flatMap(({ policy, lacking }): Finding[] =>
      lacking.map((mirror) => ({
        ...{ problem: 'not_mirrored', severity: 'alarm' },
        detail: `its newest restore point is not in the mirror ${mirror} of the policy ${policy}`,
      })),
    ),
  ];
}

function unprotected({ promises }: MachineFacts): Finding[] {
  const alarm = (detail: string): Finding[] => [{ problem: 'unprotected', severity: 'alarm', detail }];
  if (promises.length === 0) return alarm('no policy means it');
  if (promises.some(({ schedule }) => schedule !== null)) return [];
  return alarm(
    `no schedule: ${promises.map(({ policy }) => policy).join(', ')} only runs when somebody asks`,
  );
}

function overdue(facts: MachineFacts, promise: MachineFacts['promises'][number]): Finding[] {
  const { dueMs, newestMs, policy, schedule } = promise;
  if (dueMs === null || dueMs < facts.addedMs || (newestMs !== null && newestMs >= dueMs)) return [];
  const since =
    newestMs === null ? 'it has no restore point' : `its newest restore point is of ${utc(newestMs)}`;
  const running = facts.isRunning ? '; a backup is running' : '';
  return [
    {
      problem: 'overdue',
      severity: facts.isRunning ? 'notice' : 'alarm',
      detail: `${policy} (${schedule}) was due at ${utc(dueMs)}, ${since}${running}`,
    },
  ];
}

function failing({ failure }: MachineFacts): Finding[] {
  if (failure === null) return [];
  const times = failure.count > 1 ? ` (${failure.count} times since the last good one)` : '';
  return [
    { problem: 'failing', severity: 'alarm', detail: `the newest backup failed${times}: ${failure.detail}` },
  ];
}

function neverVerified({ verifiedMs, oldestMs }: MachineFacts, nowMs: number): Finding[] {
  if (oldestMs === null || verifiedMs !== null) return [];
  const isLate = nowMs - oldestMs > VERIFY_GRACE_MS;
  return [
    {
      problem: 'never_verified',
      severity: isLate ? 'alarm' : 'notice',
      detail: `no restore point was compared with its digests yet; the oldest is of ${utc(oldestMs)}`,
    },
  ];
}

function bootFailed({ bootTest }: MachineFacts): Finding[] {
  if (bootTest === null || bootTest.isPassed) return [];
  const { backupId, testedMs, reason } = bootTest;
  return [
    {
      problem: 'boot_failed',
      severity: 'alarm',
      detail: `${backupId} was booted at ${utc(testedMs)} and did not come up: ${reason}`,
    },
  ];
}

/** `2026-11-03 14:00 UTC`. */
const utc = (instantMs: number): string =>
  `${new Date(instantMs).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
