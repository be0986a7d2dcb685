import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { CtlResult, TestAppliance } from './appliance.ts';
import { sh } from './guest-disk.ts';

export interface ShownDisk {
  disk_id: number;
  backup_type: string;
  reason: string | null;
  layer: string;
  parent_layer: string | null;
  written_bytes: number;
  file_bytes: number;
  damage: string | null;
}
export interface ShownBackup {
  backup_id: string;
  status: string;
  repository: string;
  damaged: boolean;
  disks: ShownDisk[];
}
export interface ShownJob {
  job_id: string;
  backup_id: string;
  status: string;
  warnings: string[];
  progress: { processed_bytes: number };
  error: { code: string; fields: Record<string, unknown> } | null;
}
export interface ShownEvent {
  kind: string;
  severity: string;
  message: string;
  data: { backups?: string[]; disk_index?: number };
}

/** What an operator does again and again, and how what came of it is looked at. */
export class Operator {
  readonly #appliance: TestAppliance;

  constructor(appliance: TestAppliance) {
    this.#appliance = appliance;
  }

  backUp(vm: string, type = 'incremental', ...more: string[]): ShownBackup {
    return this.#appliance.json('backup', 'start', '--vm', vm, '--type', type, '--wait', ...more);
  }

  backups(...filter: string[]): ShownBackup[] {
    return this.#appliance.json<{ backups: ShownBackup[] }>('backup', 'list', ...filter).backups;
  }

  /** Over REST: quick enough to look often while it runs. */
  job(id: string): ShownJob {
    return JSON.parse(this.#appliance.rest('GET', `/api/v1/jobs/${id}`).body) as ShownJob;
  }

  events(kind: string): ShownEvent[] {
    const { events } = this.#appliance.json<{ events: ShownEvent[] }>('events');
    return events.filter((event) => event.kind === kind);
  }

  /** Until no job runs and none is about to begin. */
  async idle(): Promise<void> {
    for (let quiet = 0; quiet < 8; quiet += 1) {
      const { jobs } = this.#appliance.json<{ jobs: ShownJob[] }>('job', 'list');
      if (jobs.some(({ status }) => status === 'running' || status === 'pending')) quiet = 0;
      await sleep(150);
    }
  }

  restore(backupId: string, index: number, output: string, format = 'raw'): void {
    this.#appliance.json(
      ...['restore', 'disk', '--backup-id', backupId, '--disk', String(index)],
      ...['--output', output, '--as', format, '--force'],
    );
  }

  /** The disk of this restore point is the file, bit for bit. */
  expectRestored(backupId: string, index: number, original: string): void {
    const output = `${original}.restored`;
    this.restore(backupId, index, output);
    sh('cmp', output, original);
    rmSync(output);
  }
}

/** What a failed command must say: the code on stderr. */
export function expectFailure(result: CtlResult, code: string, exit: number): void {
  expect(result.stderr).toContain(`(${code})`);
  expect(result.code).toBe(exit);
}

export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`it never came that ${what}`);
    await sleep(20);
  }
}
