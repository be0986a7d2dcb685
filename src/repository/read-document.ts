import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { messageOf, SendenseError } from '../base/sendense-error.ts';
import { REPOSITORY_FORMAT } from './documents.ts';

/** Larger than any honest document; a crafted one must not fill the memory. */
const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024;

/**
 * Reads one JSON file of a repository.
 * @throws FORMAT_TOO_NEW, FORMAT_INVALID; a missing file throws Node's ENOENT
 */
export async function readDocument<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  const invalid = (detail: string, cause?: unknown) =>
    new SendenseError('FORMAT_INVALID', { path, detail }, cause);
  const bytes = await readFile(path);
  if (bytes.length > MAX_DOCUMENT_BYTES) throw invalid('it is too large');
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw invalid(messageOf(error), error);
  }
  const format = z.object({ format: z.number() }).safeParse(value);
  if (format.success && format.data.format > REPOSITORY_FORMAT) {
    throw new SendenseError('FORMAT_TOO_NEW', {
      path,
      format: format.data.format,
      supported: REPOSITORY_FORMAT,
    });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw invalid(z.prettifyError(parsed.error).replaceAll('\n', ' '));
  return parsed.data;
}
