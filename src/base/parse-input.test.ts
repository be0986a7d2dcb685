import { expect, test } from 'vitest';
import { z } from 'zod';
import { parseInput } from './parse-input.ts';

const say = (schema: z.ZodType, value: unknown): string => {
  try {
    parseInput(schema, value, 'the body', (detail) => new Error(detail));
    return 'fine';
  } catch (error) {
    return error instanceof Error ? error.message : '';
  }
};
const type = z.enum(['full', 'incremental', 'differential']);
const disk = z.strictObject({ path: z.string().min(1), format: z.enum(['raw', 'qcow2']).optional() });
const schema = (shape: z.ZodRawShape) => z.strictObject(shape);

test.each<[string, z.ZodType, unknown, string]>([
  [
    'a choice',
    schema({ type }),
    { type: 'ful' },
    'type is "ful"; it must be one of full, incremental, differential',
  ],
  [
    'a missing choice',
    schema({ type }),
    {},
    'type is missing; it must be one of full, incremental, differential',
  ],
  [
    'one value',
    schema({ mode: z.literal('read-only') }),
    { mode: 'rw' },
    'mode is "rw"; it must be read-only',
  ],
  ['a missing text', schema({ name: z.string() }), {}, 'name is missing; it must be a text'],
  ['null', schema({ name: z.string() }), { name: null }, 'name is null; it must be a text'],
  ['a wrong type', schema({ wait: z.boolean() }), { wait: 'yes' }, 'wait is "yes"; it must be true or false'],
  ['a list', schema({ wait: z.boolean() }), { wait: [1] }, 'wait is a list; it must be true or false'],
  ['a fraction', schema({ disk: z.int() }), { disk: 1.5 }, 'disk is 1.5; it must be a whole number'],
  ['too small', schema({ disk: z.int().min(0) }), { disk: -1 }, 'disk is -1; it must be at least 0'],
  ['too big', schema({ limit: z.int().max(10) }), { limit: 11 }, 'limit is 11; it must be at most 10'],
  ['not above', schema({ rate: z.number().gt(0) }), { rate: 0 }, 'rate is 0; it must be more than 0'],
  [
    'an empty text',
    schema({ path: z.string().min(1) }),
    { path: '' },
    'path is ""; it must have at least 1 character',
  ],
  [
    'an empty list',
    schema({ disks: z.array(disk).min(1) }),
    { disks: [] },
    'disks is an empty list; it must have at least 1 entry',
  ],
  [
    'a type in words',
    schema({ n: z.number({ error: 'a whole number' }) }),
    { n: 'x' },
    'n is "x"; it must be a whole number',
  ],
  ['a pattern', schema({ id: z.string().regex(/^a+$/) }), { id: 'b' }, 'id is "b"; it must match /^a+$/'],
  [
    'a pattern in words',
    schema({ id: z.string().regex(/^a+$/, 'letters a') }),
    { id: 'b' },
    'id is "b"; it must be letters a',
  ],
  ['a format', schema({ raw: z.base64() }), { raw: '$' }, 'raw is "$"; it must be base64'],
  [
    'an unknown key',
    schema({ name: z.string() }),
    { name: 'x', nmae: 'y' },
    'the body has no "nmae"; it may have name',
  ],
  [
    'an unknown key inside',
    schema({ disks: z.array(disk).default([]) }),
    { disks: [{ path: 'a', x: 1 }] },
    'disks[0] has no "x"; it may have path, format',
  ],
  [
    'something inside',
    schema({ disks: z.array(disk) }),
    { disks: [{ path: 'a', format: 'vmdk' }] },
    'disks[0].format is "vmdk"; it must be one of raw, qcow2',
  ],
  ['no object', schema({}), 5, 'the body is 5; it must be an object'],
  [
    'a union',
    schema({ at: z.union([z.string(), z.number()]) }),
    { at: null },
    'at is null; it must be a text or a number',
  ],
  [
    'a union of objects',
    schema({ at: z.union([schema({ days: z.int() }), z.string()]) }),
    { at: { days: 'x' } },
    'at.days is "x"; it must be a number',
  ],
  [
    'a kind',
    z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('s3') }),
      z.object({ kind: z.literal('local') }),
    ]),
    { kind: 'ftp' },
    'kind is "ftp"; it must be one of s3, local',
  ],
  [
    'long values',
    schema({ n: z.int() }),
    { n: 'x'.repeat(500) },
    `n is "${'x'.repeat(60)}…"; it must be a number`,
  ],
  [
    'hidden characters',
    schema({ n: z.int() }),
    { n: '\u202e\u0007' },
    'n is "?\\u0007"; it must be a number',
  ],
])('%s is said in words', (_what, schema_, value, text) => {
  expect(say(schema_, value)).toBe(text);
});

test('a few problems are told, the rest counted', () => {
  const shape = Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [name, z.int()]));
  expect(say(schema({ a: z.int(), b: z.int() }), { a: 'x' })).toBe(
    'a is "x"; it must be a number. b is missing; it must be a number',
  );
  expect(say(z.object(shape), {})).toMatch(/a is missing; .* c is missing; .*\. 2 more are wrong$/);
});

test('what is valid comes through', () => {
  expect(parseInput(z.object({ a: z.int().default(3) }), {}, 'the body', Error)).toEqual({ a: 3 });
});

test('a refinement says itself what is wrong', () => {
  const whole = z.object({ zone: z.string().refine(() => false, 'no such zone') });
  expect(say(whole, { zone: 'x' })).toBe('zone is "x": no such zone');
});
