import type { ErrorReport } from '../../base/sendense-error.ts';
import type { BootTest } from '../../catalog/points/boot-tests.ts';
import type { CoverageQueries } from '../../catalog/policies/coverage.ts';
import type { Vm } from '../../catalog/vms.ts';
import {
  type CoverageProblem,
  coverageProblems,
  type Finding,
  judgeMachine,
  type MachineFacts,
  type PolicyPromise,
} from '../../policy/coverage/judge-machine.ts';
import { type AbsentName, absentNames } from '../../policy/definition/absent-names.ts';
import { selects } from '../../policy/definition/select-machines.ts';
import { dueRun } from '../../policy/schedules/plan-due.ts';
import { knownNames } from './known-names.ts';
import type { KeptPolicy } from './policy-book.ts';
import type { RunnerDeps } from './run/runner-deps.ts';
import { timingOf } from './timing-of.ts';
import { unkeptMirrors } from './unkept-mirrors.ts';

export interface CoveredMachine {
  readonly vmName: string;
  readonly policies: readonly string[];
  /** Why it is left out on purpose; null: it is not. */
  readonly unprotected: string | null;
  readonly lastBackupAt: string | null;
  readonly verifiedAt: string | null;
  /** The newest of any of its restore points. */
  readonly bootTest: Pick<BootTest, 'backupId' | 'testedAt' | 'outcome' | 'reason'> | null;
  readonly problems: readonly Finding[];
}

export interface CoverageReport {
  /** No alarm. */
  readonly ok: boolean;
  readonly checkedAt: string;
  readonly counts: Readonly<Record<'machines' | 'ok' | 'excused' | CoverageProblem, number>>;
  /** Those with problems first. */
  readonly machines: readonly CoveredMachine[];
  /** What policies name and nobody has. */
  readonly absent: readonly (AbsentName & { readonly policy: string })[];
  /** With locks or retention, and in no mirror run of any policy. Worth a word, no alarm. */
  readonly unkeptMirrors: readonly string[];
  readonly brokenPolicies: readonly { readonly file: string; readonly detail: string }[];
}

type CoverageDeps = Pick<RunnerDeps, 'book' | 'catalog' | 'clock'>;

/** An upload may take so long before its lack is worth a word. */
const MIRROR_GRACE_MS = 2 * 3600 * 1000;

interface Promised extends PolicyPromise {
  readonly means: ReturnType<typeof selects>;
  readonly repositoryId: string | null;
  readonly mirrors: readonly string[];
  /** The same for policies with the same repository and mirrors. */
  readonly placeKey: string;
}

/** How each registered machine is protected, measured by its own policies. Reads the catalogue only. */
export function reportCoverage(deps: CoverageDeps): CoverageReport {
  const { book, catalog, clock } = deps;
  const now = clock.now();
  const promised = book.all().map((kept) => promiseOf(deps, kept, now.getTime()));
  const verified = catalog.coverage.verified();
  const bootTests = catalog.bootTests.newest();
  const everFailed = catalog.coverage.everFailed();
  const running = new Set(
    catalog.jobs.unfinished().flatMap(({ kind, vmName }) => (kind === 'backup' && vmName ? [vmName] : [])),
  );
  const all = catalog.vms.all();
  const known = knownNames(catalog, all);
  const absent = book
    .all()
    .flatMap(({ policy }) => absentNames(policy, known).map((one) => ({ policy: policy.name, ...one })));
  const machines = all
    .filter(({ registered }) => registered)
    .map((vm): CoveredMachine => {
      const facts = factsOf(deps, vm, promised, now, {
        verifiedAt: verified.get(vm.contextId) ?? null,
        isRunning: running.has(vm.name),
        mayFail: everFailed.has(vm.contextId),
        bootTest: bootTests.get(vm.contextId) ?? null,
      });
      const newestMs = Math.max(...facts.promises.map((promise) => promise.newestMs ?? 0), 0);
      return {
        vmName: vm.name,
        policies: facts.promises.map(({ policy }) => policy),
        unprotected: vm.unprotected,
        lastBackupAt: newestMs === 0 ? null : new Date(newestMs).toISOString(),
        verifiedAt: verified.get(vm.contextId) ?? null,
        bootTest: shownTest(bootTests.get(vm.contextId)),
        problems: judgeMachine(facts, now.getTime()),
      };
    });
  const withProblem = (problem: CoverageProblem) =>
    machines.filter(({ problems }) => problems.some((one) => one.problem === problem)).length;
  const hasAlarm = ({ problems }: CoveredMachine) => problems.some(({ severity }) => severity === 'alarm');
  return {
    // a machine may be registered later; without its repository or its mirror a policy does nothing
    ok:
      !machines.some(hasAlarm) && book.broken.length === 0 && absent.every(({ what }) => what === 'machine'),
    checkedAt: now.toISOString(),
    counts: {
      machines: machines.length,
      ok: machines.filter((machine) => machine.unprotected === null && !hasAlarm(machine)).length,
      excused: machines.filter(({ unprotected }) => unprotected !== null).length,
      ...(Object.fromEntries(coverageProblems.map((one) => [one, withProblem(one)])) as Record<
        CoverageProblem,
        number
      >),
    },
    machines: machines.toSorted(
      (a, b) => Number(hasAlarm(b)) - Number(hasAlarm(a)) || b.problems.length - a.problems.length,
    ),
    absent,
    unkeptMirrors: unkeptMirrors(
      catalog.mirrors.all(),
      book.all().map(({ policy }) => policy),
    ),
    brokenPolicies: book.broken,
  };
}

function shownTest(test: BootTest | undefined): CoveredMachine['bootTest'] {
  if (test === undefined) return null;
  const { backupId, testedAt, outcome, reason } = test;
  return { backupId, testedAt, outcome, reason };
}

function promiseOf(deps: CoverageDeps, { policy, since }: KeptPolicy, nowMs: number): Promised {
  const timing = timingOf(policy, 'backup');
  const ledger = { nowMs: nowMs - policy.grace_s * 1000, sinceMs: Date.parse(since.backup), claimedMs: null };
  return {
    policy: policy.name,
    schedule: policy.schedule,
    dueMs: timing === null ? null : (dueRun(timing, ledger)?.dueMs ?? null),
    means: selects(policy.machines),
    // one that was removed since holds no points
    repositoryId: deps.catalog.repositories.all().find(({ name }) => name === policy.repository)?.id ?? null,
    mirrors: policy.mirrors,
    placeKey: [policy.repository, ...policy.mirrors].join(' '),
  };
}

function factsOf(
  { catalog }: CoverageDeps,
  vm: Vm,
  promised: readonly Promised[],
  now: Date,
  {
    verifiedAt,
    isRunning,
    mayFail,
    bootTest,
  }: {
    readonly verifiedAt: string | null;
    readonly isRunning: boolean;
    readonly mayFail: boolean;
    readonly bootTest: BootTest | null;
  },
): MachineFacts {
  const { coverage } = catalog;
  const { contextId } = vm;
  const mirrored = new Date(now.getTime() - MIRROR_GRACE_MS).toISOString();
  // several policies mostly share a repository and mirrors
  const looks = new Map<string, ReturnType<typeof look>>();
  const promises = promised
    .filter(({ means }) => means(vm))
    .map(({ means: _means, repositoryId, mirrors, placeKey, ...promise }) => {
      const seen = looks.get(placeKey) ?? look(coverage, contextId, repositoryId, mirrors, mirrored);
      looks.set(placeKey, seen);
      return { ...promise, ...seen };
    });
  const newestMs = Math.max(...promises.map((promise) => promise.newestMs ?? 0), 0);
  // only asked when it matters
  const oldest = verifiedAt === null ? coverage.oldest(contextId) : null;
  return {
    ...{ name: vm.name, unprotected: vm.unprotected, promises },
    addedMs: Date.parse(vm.createdAt),
    isRunning,
    failure: mayFail
      ? failureOf(coverage, contextId, newestMs === 0 ? '' : new Date(newestMs).toISOString())
      : null,
    oldestMs: oldest === null ? null : Date.parse(oldest),
    verifiedMs: verifiedAt === null ? null : Date.parse(verifiedAt),
    bootTest:
      bootTest === null
        ? null
        : {
            ...{ backupId: bootTest.backupId, reason: bootTest.reason },
            testedMs: Date.parse(bootTest.testedAt),
            isPassed: bootTest.outcome === 'passed',
          },
  };
}

/**
 * The newest restore point, and the mirrors that lack it. While it is young, an older one must be there instead.
 * @param mirrored what began until then should be in the mirrors
 */
function look(
  coverage: CoverageQueries,
  contextId: string,
  repositoryId: string | null,
  mirrors: readonly string[],
  mirrored: string,
): { newestMs: number | null; lacking: readonly string[] } {
  const newest = repositoryId === null ? null : coverage.newest(contextId, repositoryId, END_OF_TIME);
  if (newest === null || repositoryId === null) return { newestMs: null, lacking: [] };
  const newestMs = Date.parse(newest.createdAt);
  const lacking = mirrors.filter((mirror) => !coverage.isInMirror(mirror, newest.id));
  if (lacking.length === 0 || newest.createdAt <= mirrored) return { newestMs, lacking };
  const older = coverage.newest(contextId, repositoryId, mirrored);
  if (older === null) return { newestMs, lacking: [] };
  return { newestMs, lacking: lacking.filter((mirror) => !coverage.isInMirror(mirror, older.id)) };
}

/** After every time that is written in ISO 8601. */
const END_OF_TIME = '9999';

function failureOf(coverage: CoverageQueries, contextId: string, since: string): MachineFacts['failure'] {
  const errors = coverage.failuresSince(contextId, since);
  const [error = null] = errors;
  const count = errors.length;
  if (error !== null) {
    const { code, message } = JSON.parse(error) as ErrorReport;
    return { count, detail: `${code}: ${message}` };
  }
  const task = coverage.newestTask(contextId);
  if (task?.status !== 'failed' || task.claimedAt <= since)
    return count > 0 ? { count, detail: 'without a reason' } : null;
  return { count: Math.max(count, 1), detail: task.detail };
}
