/** By code units: right for ids and ISO times, and many times faster than by a language's rules. */
export const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
