/** Names for QEMU's block nodes: at most 31 characters, never used twice in one daemon. */
let last = 0;

export const nodeNames = {
  next: (): string => {
    last += 1;
    return `sd${last}`;
  },
};
