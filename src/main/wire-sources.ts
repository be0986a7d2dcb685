import { SendenseError } from '../base/sendense-error.ts';
import type { SourceKind } from '../base/source-reference.ts';
import { imageSource } from '../capture/image/image-source.ts';
import type { Source, SourceOf } from '../capture/source.ts';
import type { StorageDaemon } from '../qemu/storage-daemon.ts';

interface SourceWiring {
  readonly daemon: StorageDaemon;
}

/** One source for each kind of machine. */
export function wireSources({ daemon }: SourceWiring): SourceOf {
  const sources: Partial<Record<SourceKind, Source>> = { image: imageSource({ daemon }) };
  return (kind) => {
    const source = sources[kind];
    if (source) return source;
    throw new SendenseError('INTERNAL', { detail: `no source for ${kind}` });
  };
}
