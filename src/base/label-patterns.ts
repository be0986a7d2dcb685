/** What stands in front of the `=` of a label. Small letters only: keys of JSON are written so everywhere. */
export const labelKeyPattern = /^[a-z0-9][a-z0-9._/-]{0,62}$/;
export const labelValuePattern = /^[A-Za-z0-9._/-]{0,63}$/;
