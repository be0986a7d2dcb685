/** Constants of the NBD protocol, doc/proto.md of the NBD project. */
export const NBD_MAGIC = 0x4e42444d41474943n;
export const OPTION_MAGIC = 0x49484156454f5054n;
export const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

export const CLIENT_FLAGS = 0x3; // FIXED_NEWSTYLE | NO_ZEROES
export const option = { abort: 2, startTls: 5, go: 7, structuredReply: 8, setMetaContext: 10 } as const;
export const optionReply = { ack: 1, info: 3, metaContext: 4 } as const;
export const infoType = { export: 0 } as const;
export const command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  writeZeroes: 6,
  blockStatus: 7,
} as const;
export const chunk = { none: 0, offsetData: 1, offsetHole: 2, blockStatus: 5 } as const;
export const CHUNK_FLAG_DONE = 1;
export const CHUNK_ERROR_BIT = 0x8000;
export const transmissionFlag = { readOnly: 2, flush: 4, fua: 8, trim: 32, writeZeroes: 64 } as const;
export const BASE_ALLOCATION = 'base:allocation';
/** The range reads as zeros; a mere hole (1) promises nothing about its content. */
export const STATE_ZERO = 2;

const errorNames: Readonly<Record<number, string>> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  108: 'ESHUTDOWN',
};

export const errorName = (value: number): string => errorNames[value] ?? `errno ${value}`;

/** A request that the server answered with an error. */
export class NbdReplyError extends Error {
  readonly errno: string;

  constructor(what: string, value: number) {
    super(`${what}: ${errorName(value)}`);
    this.name = 'NbdReplyError';
    this.errno = errorName(value);
  }
}

/** The connection broke; requests under way may or may not have been done. */
export class NbdConnectionLost extends Error {
  constructor(detail: string) {
    super(detail);
    this.name = 'NbdConnectionLost';
  }
}
