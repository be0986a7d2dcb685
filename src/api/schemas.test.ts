import { expect, test } from 'vitest';
import { z } from 'zod';
import { openApiDocument } from './openapi.ts';
import { defineRoute } from './route.ts';
import { diskIndex, limit } from './schemas.ts';

test.each(['1e3', '0x10', ' 5', '5 ', '01', '+5', '5.0', '-1', '', '0', '1001', ['1'], true])(
  '%j is no limit',
  (text) => {
    expect(limit.safeParse(text).success).toBe(false);
  },
);

test('plain numbers are', () => {
  expect([limit.parse('1'), limit.parse('1000'), limit.parse(undefined), diskIndex.parse('0')]).toEqual([
    1, 1000, 100, 0,
  ]);
});

test('the document says what a query takes', () => {
  const route = defineRoute({
    method: 'get',
    path: '/x',
    tag: 'x',
    summary: 'x',
    access: { role: 'viewer', about: 'none' },
    query: z.strictObject({ limit, disk: diskIndex.optional() }),
    answer: z.null(),
    handle: async () => null,
  });
  expect(openApiDocument([route], '1').paths?.['/x']?.get?.parameters).toEqual([
    { in: 'query', name: 'limit', schema: { type: 'integer', minimum: 1, maximum: 1000, default: 100 } },
    { in: 'query', name: 'disk', schema: { type: 'integer', minimum: 0, maximum: 9999 } },
  ]);
});
