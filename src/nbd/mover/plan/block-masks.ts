/** A changed block is written in steps of one qcow2 cluster. */
export const STEP_BYTES = 64 * 1024;

export interface StepRun {
  /** From the start of the block, in bytes. */
  readonly start: number;
  readonly length: number;
}

export const stepCount = (length: number): number => Math.ceil(length / STEP_BYTES);

/** The bits of all steps of a block of this length. */
export const allSteps = (length: number): number => 2 ** stepCount(length) - 1;

/** Neighbouring set bits become one run; the last step may be short. Pure. */
export function runsOf(mask: number, length: number): StepRun[] {
  const runs: StepRun[] = [];
  let start = -1;
  const count = stepCount(length);
  for (let step = 0; step <= count; step += 1) {
    const isSet = step < count && (mask & (1 << step)) !== 0;
    if (isSet && start < 0) start = step;
    if (!isSet && start >= 0) {
      const from = start * STEP_BYTES;
      runs.push({ start: from, length: Math.min(step * STEP_BYTES, length) - from });
      start = -1;
    }
  }
  return runs;
}

/** Which steps of the block are all zero. */
export function zeroMask(block: Buffer, zeros: Buffer): number {
  return maskWhere(block, (step) => step.equals(zeros.subarray(0, step.length)));
}

/** Which steps differ between two blocks of one length. */
export function differenceMask(block: Buffer, other: Buffer): number {
  return maskWhere(block, (step, from) => !step.equals(other.subarray(from, from + step.length)));
}

function maskWhere(block: Buffer, holds: (step: Buffer, from: number) => boolean): number {
  let mask = 0;
  for (let step = 0; step < stepCount(block.length); step += 1) {
    const from = step * STEP_BYTES;
    if (holds(block.subarray(from, from + STEP_BYTES), from)) mask |= 1 << step;
  }
  return mask;
}
