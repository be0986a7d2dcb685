/** Counted while a sync runs, in bytes unless named otherwise. */
export interface SyncProgress {
  /** Of the rows that have to be in the mirror. */
  totalBytes: number;
  /** Of these, what was looked at. */
  processedBytes: number;
  /** Of these, what the mirror had. */
  reusedBytes: number;
  /** Written to the bucket. */
  storedBytes: number;
  packs: number;
}

export const noSyncProgress = (): SyncProgress => ({
  totalBytes: 0,
  processedBytes: 0,
  reusedBytes: 0,
  storedBytes: 0,
  packs: 0,
});
