import { z } from 'zod';
import type { WorkName } from './privileged-work.ts';

/** Longer lines are nothing that we would send. */
export const MAX_LINE_BYTES = 16 * 1024;

const name = z.string().max(121);
const place = z.strictObject({ session: name, key: name });
const bytes = z.number().int().min(0);
const device = z.string().max(64);
const path = z.string().max(4096);

/** The arguments of each kind of work, in order. */
export const workArguments = {
  attachLoop: z.tuple([
    z.strictObject({ session: name, file: name, offsetBytes: bytes, sizeBytes: bytes.min(1) }),
  ]),
  detachLoop: z.tuple([device, z.boolean()]),
  connectNbd: z.tuple([z.strictObject({ session: name, socket: name, exportName: name })]),
  disconnectNbd: z.tuple([device]),
  mount: z.tuple([
    z.strictObject({ session: name, key: name, device, fsType: z.string().max(32), replay: z.boolean() }),
  ]),
  makePlace: z.tuple([place]),
  clearPlace: z.tuple([place, z.boolean()]),
  expose: z.tuple([place, path]),
  unexpose: z.tuple([path, z.boolean()]),
  sweep: z.tuple([]),
} as const satisfies Record<WorkName, z.ZodType>;

/** One line to mountd. */
export const requestMessage = z.strictObject({
  id: z.number().int(),
  work: z.enum(Object.keys(workArguments) as [WorkName, ...WorkName[]]),
  args: z.array(z.unknown()).max(2),
});

/** One line back: a result, or an error of the error table. */
export const answerMessage = z.union([
  z.strictObject({ id: z.number().int(), result: z.unknown() }),
  z.strictObject({
    id: z.number().int(),
    error: z.strictObject({
      code: z.string(),
      fields: z.record(
        z.string(),
        z.union([z.string(), z.number(), z.boolean(), z.array(z.string()), z.null()]),
      ),
    }),
  }),
]);
