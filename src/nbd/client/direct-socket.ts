import { connect, type NetConnectOpts, type Socket } from 'node:net';

/** Takes what comes, and says where the bytes are wanted that come next. */
export interface Receiver {
  /** Null: anywhere. */
  room(): Uint8Array | null;
  /** So many bytes have come into the room that was last named. */
  filled(count: number): void;
  /** Bytes that came elsewhere; they must be copied before it returns. */
  feed(bytes: Buffer): void;
}

/** A socket that can read to where its bytes are wanted. */
export interface DirectSocket {
  readonly socket: Socket;
  /** From now on there are no `data` events. */
  handOver(receiver: Receiver): void;
}

/** Little, so that of a long answer nearly all is read in place; many short ones are still read at once. */
const COMMON_BYTES = 32 * 1024;

/** The bytes of a disk are read once, into the slot of their block: each further copy costs as much as hashing them. */
export function connectDirect(target: NetConnectOpts): DirectSocket {
  const common = Buffer.allocUnsafeSlow(COMMON_BYTES);
  let receiver: Receiver | null = null;
  let room: Uint8Array = common;
  const socket = connect({
    ...target,
    onread: {
      buffer: () => {
        room = receiver?.room() ?? common;
        return room;
      },
      callback: (length) => {
        const bytes = common.subarray(0, length);
        if (receiver === null) socket.emit('data', Buffer.from(bytes));
        else if (room === common) receiver.feed(bytes);
        else receiver.filled(length);
        return true;
      },
    },
  });
  return {
    socket,
    handOver: (to) => {
      receiver = to;
    },
  };
}
