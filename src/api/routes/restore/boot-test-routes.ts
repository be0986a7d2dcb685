import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { errnoOf } from '../../../base/sendense-error.ts';
import { listBootTests, openEvidence } from '../../../jobs/boot-tests/list-boot-tests.ts';
import { type BootTestDeps, startBootTest } from '../../../jobs/boot-tests/start-boot-test.ts';
import { bootTestFilePattern, bootTestPattern } from '../../../repository/boot-tests/boot-tests.ts';
import { defineRoute, type Route, streamed } from '../../route.ts';
import { backupRef, jobAnswer } from '../../schemas.ts';
import { jobView } from '../../views.ts';

const tag = 'restore';
const answer = z.object({
  backup_id: z.string(),
  tests: z.array(
    z.looseObject({
      time: z.string(),
      folder: z.string(),
      outcome: z.enum(['passed', 'failed']),
      reason: z.string(),
      tested_at: z.string(),
      took_ms: z.number(),
      met: z.array(z.object({ condition: z.string(), after_ms: z.number() })),
      files: z.array(z.object({ name: z.string(), bytes: z.number() })),
    }),
  ),
});

/** How a file is shown; a serial log is what a guest wrote: text, whatever it looks like. */
const typeOf = (file: string): string =>
  file.endsWith('.png')
    ? 'image/png'
    : file.endsWith('.json')
      ? 'application/json'
      : 'text/plain; charset=utf-8';

/** Booting restore points to see whether they come up, and what was seen. */
export function bootTestRoutes(deps: BootTestDeps): Route[] {
  return [
    defineRoute({
      method: 'post',
      path: '/restore/test',
      tag,
      status: 202,
      summary: 'Boot a restore point without a network, and see whether it comes up',
      access: { role: 'restore', about: ['backup_id'] },
      answer: jobAnswer,
      body: z.strictObject({
        backup_id: backupRef,
        memory_mib: z.number().int().min(64).max(1_048_576).default(1024),
        cpus: z.number().int().min(1).max(64).default(1),
        timeout_s: z.number().int().min(1).max(86_400).default(600),
        firmware: z.enum(['bios', 'uefi']).default('bios'),
        disk_bus: z.enum(['virtio', 'sata', 'ide']).default('virtio'),
        expect_serial: z
          .string()
          .min(1)
          .max(1000)
          .nullish()
          .meta({ description: 'Regular expression that a line of the serial console must match' }),
        expect_agent: z.boolean().default(false),
        expect_screen_stable_s: z.number().int().min(1).max(3600).nullish(),
      }),
      handle: async ({ body }) =>
        jobView(
          await startBootTest(deps, {
            backup: body.backup_id,
            memoryMib: body.memory_mib,
            cpus: body.cpus,
            timeoutMs: body.timeout_s * 1000,
            firmware: body.firmware,
            diskBus: body.disk_bus,
            serial: body.expect_serial ?? null,
            agent: body.expect_agent,
            screenStableS: body.expect_screen_stable_s ?? null,
          }),
        ),
    }),
    defineRoute({
      method: 'get',
      path: '/backup/{backup_id}/boot-tests',
      tag,
      summary: 'Boot tests of a restore point, newest first',
      access: { role: 'viewer', about: ['backup_id'] },
      params: z.object({ backup_id: backupRef }),
      answer,
      handle: async ({ params }) => {
        const { backup, tests } = await listBootTests(deps, params.backup_id);
        return {
          backupId: backup.id,
          tests: tests.map(({ time, folder, document, files }) => ({ time, folder, ...document, files })),
        };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/backup/{backup_id}/boot-tests/{time}/{file}',
      tag,
      summary: 'A file of a boot test: its result, logs and pictures',
      access: { role: 'restore', about: ['backup_id'] },
      params: z.object({
        backup_id: backupRef,
        time: z.string().regex(bootTestPattern, 'the time of a test, as in 20261120-230007'),
        file: z.string().regex(bootTestFilePattern, 'a file of a test, as in screen-1.png'),
      }),
      answer: z.unknown(),
      handle: async ({ params, response }) => {
        const { handle, bytes } = await openEvidence(deps, params.backup_id, params.time, params.file);
        deps.catalog.events.add({
          ...{ kind: 'restore.evidence', severity: 'info', subject: params.backup_id },
          message: `${params.file} of the boot test ${params.time} was read.`,
          data: { backup_id: params.backup_id, time: params.time, file: params.file, bytes },
        });
        response.set({
          'Content-Type': typeOf(params.file),
          'Content-Length': String(bytes),
          'X-Content-Type-Options': 'nosniff',
          'Content-Security-Policy': 'sandbox',
        });
        // no byte more than was announced, whoever appends to it
        const stream = handle.createReadStream(bytes > 0 ? { start: 0, end: bytes - 1 } : { end: -1 });
        await pipeline(stream, response).catch((error: unknown) => {
          if (errnoOf(error) !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
        });
        return streamed;
      },
    }),
  ];
}
