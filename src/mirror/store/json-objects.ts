import type { z } from 'zod';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { MIRROR_FORMAT } from '../documents.ts';
import type { ObjectStore, PutOptions } from './object-store.ts';

export async function writeJson(
  store: ObjectStore,
  key: string,
  value: object,
  options: PutOptions = {},
): Promise<string> {
  return await store.put(key, Buffer.from(`${JSON.stringify(value, null, 2)}\n`), options);
}

/** @throws MIRROR_OBJECT_MISSING, MIRROR_OBJECT_DAMAGED, MIRROR_TOO_NEW */
export async function readJson<T>(
  store: Pick<ObjectStore, 'get'>,
  key: string,
  schema: z.ZodType<T>,
): Promise<T> {
  return parseJson(key, (await store.get(key)).body, schema);
}

export function parseJson<T>(key: string, body: Buffer, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch (error) {
    throw new SendenseError('MIRROR_OBJECT_DAMAGED', { key, detail: messageOf(error) }, error);
  }
  const format = typeof value === 'object' && value !== null ? (value as { format?: unknown }).format : null;
  if (typeof format === 'number' && format > MIRROR_FORMAT)
    throw new SendenseError('MIRROR_TOO_NEW', { key, format, supported: MIRROR_FORMAT });
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const detail = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'it is not what it should be'}`;
  throw new SendenseError('MIRROR_OBJECT_DAMAGED', { key, detail });
}
