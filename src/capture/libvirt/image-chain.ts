import { z } from 'zod';
import { SendenseError } from '../../base/sendense-error.ts';
import type { DiskFormat } from '../../base/source-reference.ts';
import type { Host } from './host/host.ts';

export type BitmapState = 'recording' | 'resting' | 'inconsistent';

/** An image and its persistent bitmaps. */
export interface ChainImage {
  readonly path: string;
  readonly format: DiskFormat;
  readonly bitmaps: ReadonlyMap<string, BitmapState>;
}

const imageInfo = z.array(
  z.object({
    filename: z.string(),
    format: z.string(),
    'full-backing-filename': z.string().optional(),
    'backing-filename-format': z.string().optional(),
    'format-specific': z
      .object({
        data: z.object({
          bitmaps: z.array(z.object({ name: z.string(), flags: z.array(z.string()) })).optional(),
          'data-file': z.string().optional(),
        }),
      })
      .optional(),
  }),
);

/**
 * An image and all below it, the top first.
 * @throws SOURCE_UNREADABLE, SOURCE_HEADER_REFUSED when QEMU would have to guess what a backing file is
 */
export async function readImageChain(host: Host, path: string, format: DiskFormat): Promise<ChainImage[]> {
  if (format === 'raw') return [{ path, format, bitmaps: new Map() }];
  const text = await host.run('qemu-img', [
    ...['info', '--output=json', '--backing-chain', '-U', '-f', format],
    path,
  ]);
  const parsed = imageInfo.safeParse(JSON.parse(text));
  if (!parsed.success) throw new SendenseError('SOURCE_UNREADABLE', { path, detail: parsed.error.message });
  const refuse = (detail: string) => new SendenseError('SOURCE_HEADER_REFUSED', { path, detail });
  return parsed.data.map((image, index): ChainImage => {
    const named = index === 0 ? format : parsed.data[index - 1]?.['backing-filename-format'];
    if (named === undefined)
      throw refuse(`the format of its backing file ${image.filename} is not written in the image above it`);
    if (named !== 'raw' && named !== 'qcow2')
      throw refuse(`its backing file ${image.filename} is of the format ${named}`);
    const data = image['format-specific']?.data;
    const bitmaps = named === 'raw' ? [] : (data?.bitmaps ?? []);
    return {
      path: image.filename,
      format: named,
      bitmaps: new Map(bitmaps.map(({ name, flags }) => [name, stateOf(flags)])),
    };
  });
}

/** `in-use` of an image that nobody writes to: its last writer did not save it. */
function stateOf(flags: readonly string[]): BitmapState {
  if (flags.includes('in-use')) return 'inconsistent';
  return flags.includes('auto') ? 'recording' : 'resting';
}
