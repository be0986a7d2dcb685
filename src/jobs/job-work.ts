import type { Job, JobKind, JobProgress } from '../catalog/jobs.ts';

/** What a running job may do to its own record. */
export interface JobContext {
  readonly jobId: string;
  readonly signal: AbortSignal;
  setPhase(phase: string): void;
  setProgress(progress: JobProgress): void;
  warn(text: string): void;
  /** What `job show` tells of the outcome. */
  setResult(result: Readonly<Record<string, unknown>>): void;
  /** To be written before an outside effect. */
  intent(step: string, detail?: Readonly<Record<string, unknown>>): void;
  /** This job is left as it is when it is interrupted: the next daemon goes on with it. */
  suspend(): void;
  /** To be written after it. */
  fact(step: string, detail?: Readonly<Record<string, unknown>>): void;
}

export interface JobWork {
  readonly kind: JobKind;
  /** Takes no place of the jobs that people wait for; few of these run at a time. */
  readonly isBackground?: boolean;
  /** Long work that goes on beside the others, one at a time. */
  readonly isAside?: boolean;
  /** Takes no place of any other work: starts it when its own kind has room. */
  readonly lane?: (start: () => Promise<Job>) => Promise<Job>;
  readonly vmName: string | null;
  readonly backupId: string | null;
  readonly request: Readonly<Record<string, unknown>>;
  run(context: JobContext): Promise<void>;
  /** Called once after the job left the state `running` or `pending`, whatever the end. */
  ended(job: Job): void;
}
