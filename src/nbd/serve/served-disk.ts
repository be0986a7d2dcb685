/** Bytes that can be read at any place. */
export interface ServedDisk {
  readonly name: string;
  readonly sizeBytes: number;
  /** Fills the whole buffer. */
  read(offsetBytes: number, into: Buffer): Promise<void>;
}
