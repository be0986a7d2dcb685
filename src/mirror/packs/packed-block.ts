export type Codec = 'raw' | 'zstd';

/** Where the content of a block lies in a pack. */
export interface FramePlace {
  readonly at: number;
  readonly len: number;
  readonly codec: Codec;
}

export interface PackedBlock extends FramePlace {
  readonly b3: string;
  readonly rawBytes: number;
}

/** What a frame is sealed for: it opens as no other block. */
export const framePurpose = (id: Buffer, codec: Codec, rawBytes: number): string =>
  `frame ${id.toString('hex')} ${codec} ${rawBytes}`;
