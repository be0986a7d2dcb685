import { expect, it } from 'vitest';
import { SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from './protocol.ts';
import { ReplyParser, type ReplyTarget } from './reply-parser.ts';

const OFFSET = 4096;
const DONE = 1;
const OFFSET_DATA = 1;
const OFFSET_HOLE = 2;

function chunk(type: number, flags: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
  header.writeUInt16BE(flags, 4);
  header.writeUInt16BE(type, 6);
  header.writeUInt32BE(7, 12);
  header.writeUInt32BE(payload.length, 16);
  return Buffer.concat([header, payload]);
}
const at = (offset: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(OFFSET + offset));
  return bytes;
};
const data = (offset: number, text: string, flags = 0) =>
  chunk(OFFSET_DATA, flags, Buffer.concat([at(offset), Buffer.from(text)]));
function hole(offset: number, length: number, flags = 0): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(length);
  return chunk(OFFSET_HOLE, flags, Buffer.concat([at(offset), size]));
}

/** What a read of 8 bytes has got, `null` when it did not end. */
function answerOf(bytes: Buffer, pieceBytes: number): string | null {
  let done = false;
  const into = Buffer.from('????????');
  const target: ReplyTarget = {
    ...{ into, offset: OFFSET, filledBytes: 0, errno: 0, statusBody: null },
    complete: () => {
      done = true;
    },
  };
  const parser = new ReplyParser(
    (cookie) => (cookie === 7 ? target : undefined),
    () => undefined,
  );
  for (let position = 0; position < bytes.length; position += pieceBytes)
    parser.feed(bytes.subarray(position, position + pieceBytes));
  return done ? into.toString('latin1') : null;
}

it.each([1, 3, 19, 4096])('puts an answer together that comes in pieces of %i bytes', (piece) => {
  const simple = Buffer.alloc(16);
  simple.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
  simple.writeUInt32BE(7, 12);
  expect(answerOf(Buffer.concat([simple, Buffer.from('abcdefgh')]), piece)).toBe('abcdefgh');
  const parts = [data(4, 'ef'), hole(0, 4), data(6, 'gh', DONE)];
  expect(answerOf(Buffer.concat(parts), piece)).toBe('\0\0\0\0efgh');
});

it.each([
  ['leaves out bytes', data(0, 'abcd', DONE)],
  ['leaves out bytes', Buffer.concat([data(0, 'abcd'), hole(4, 3, DONE)])],
  ['outside its request', data(4, 'abcde', DONE)],
  ['outside its request', hole(0, 9, DONE)],
  ['wrong length', data(0, 'abcdefghi', DONE)],
  ['no request', Buffer.concat([chunk(OFFSET_DATA, DONE, Buffer.alloc(0))]).fill(8, 12, 16)],
])('takes no answer that %s', (what, bytes) => {
  expect(() => answerOf(bytes, 4096)).toThrow(what);
});
