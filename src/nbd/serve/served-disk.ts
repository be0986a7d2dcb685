/** Bytes that can be read at any place. */
export interface ServedDisk {
  readonly name: string;
  readonly sizeBytes: number;
  /** Fills the whole buffer. */
  read(offsetBytes: number, into: Buffer): Promise<void>;
  /** What is known of a range without reading it, in order and without gaps. Absent: nothing is. */
  extents?(offsetBytes: number, lengthBytes: number): Iterable<ServedExtent>;
}

export interface ServedExtent {
  readonly length: number;
  /** It reads as zeros. */
  readonly isZero: boolean;
}
