import { z } from 'zod';
import { SendenseError } from '../../../base/sendense-error.ts';
import type { Job, JobKind, JobQueries } from '../../../catalog/jobs.ts';
import type { JobEngine } from '../../../jobs/job-engine.ts';
import { isFinished } from '../../../jobs/job-state.ts';
import { confirmRole } from '../../access/subjects.ts';
import { defineRoute, type Route, streamed } from '../../route.ts';
import { id, jobAnswer, jobStatus, limit, vmName } from '../../schemas.ts';
import { jobView } from '../../views.ts';
import { toWire } from '../../wire.ts';

const tag = 'jobs';
interface JobRouteDeps {
  readonly engine: JobEngine;
  readonly jobs: JobQueries;
  /** Of all machines that are known. */
  readonly vmNames: () => readonly string[];
}

/** Jobs of the role `restore`. */
const restoring: ReadonlySet<JobKind> = new Set(['restore-disk', 'restore-vm', 'keep-live', 'boot-test']);
const jobParams = z.object({ job_id: id });
/** Comment lines keep proxies and clients from giving up a quiet stream. */
const KEEP_ALIVE_MS = 15_000;

export function jobRoutes({ engine, jobs, vmNames }: JobRouteDeps): Route[] {
  const find = (jobId: string): Job => {
    const job = engine.get(jobId);
    if (!job) throw new SendenseError('JOB_UNKNOWN', { job: jobId });
    return job;
  };
  return [
    defineRoute({
      method: 'get',
      path: '/jobs',
      tag,
      summary: 'Jobs, newest first',
      access: { role: 'viewer', about: 'listed' },
      query: z.strictObject({ status: jobStatus.optional(), vm_name: vmName.optional(), limit }),
      answer: z.object({ jobs: z.array(jobAnswer) }),
      handle: async ({ query, caller }) => ({
        jobs: jobs
          .list({
            limit: query.limit,
            ...(query.status === undefined ? {} : { status: query.status }),
            ...(query.vm_name === undefined ? {} : { vm: query.vm_name }),
            ...(caller.isScoped ? { vms: vmNames().filter(caller.sees) } : {}),
          })
          .map((job) => jobView(engine.get(job.id) ?? job)),
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/jobs/{job_id}',
      tag,
      summary: 'One job',
      access: { role: 'viewer', about: ['job_id'] },
      params: jobParams,
      answer: jobAnswer,
      handle: async ({ params }) => jobView(find(params.job_id)),
    }),
    defineRoute({
      method: 'post',
      path: '/jobs/{job_id}/cancel',
      tag,
      status: 202,
      summary: 'Ask a job to stop',
      access: { role: 'restore', about: ['job_id'] },
      params: jobParams,
      answer: jobAnswer,
      handle: async ({ params, caller }) => {
        const job = find(params.job_id);
        if (!restoring.has(job.kind)) confirmRole(caller, { role: 'operator', about: ['job_id'] });
        return jobView(engine.cancel(job.id));
      },
    }),
    defineRoute({
      method: 'get',
      path: '/jobs/{job_id}/events',
      tag,
      summary: 'The job as server-sent events, until it ends',
      access: { role: 'viewer', about: ['job_id'] },
      params: jobParams,
      answer: jobAnswer,
      handle: async ({ params, response }) => {
        const first = find(params.job_id);
        response.status(200).set({ 'Content-Type': 'text/event-stream' });
        response.flushHeaders();
        const send = (job: Job) =>
          response.write(`event: job\ndata: ${JSON.stringify(toWire(jobView(job)))}\n\n`);
        const alive = setInterval(() => response.write(': still here\n\n'), KEEP_ALIVE_MS);
        const stop = () => {
          clearInterval(alive);
          engine.changes.off('job', onJob);
        };
        const onJob = (job: Job) => {
          if (job.id !== params.job_id) return;
          send(job);
          if (!isFinished(job.status)) return;
          stop();
          response.end();
        };
        response.on('close', stop);
        engine.changes.on('job', onJob);
        onJob(engine.get(params.job_id) ?? first);
        return streamed;
      },
    }),
  ];
}
