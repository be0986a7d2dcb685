import { expect, test } from 'vitest';
import { parseLvmText } from './lvm-text.ts';
import { readVolumeGroup } from './volume-group.ts';

const pv = (name: string, id: string) =>
  `${name} { id = "${id.padEnd(38, id)}" device = "/dev/x" status = ["ALLOCATABLE"] pe_start = 2048 pe_count = 63 }`;
const lv = (name: string, ...segments: string[]) =>
  `${name} { id = "i" status = ["READ", "VISIBLE"] segment_count = ${segments.length}
   ${segments.map((text, index) => `segment${index + 1} { ${text} }`).join('\n')} }`;
const group = (volumes: string, name = 'vg0') => `${name} {
  id = "${'g'.repeat(38)}"
  seqno = 6 # a remark
  format = "lvm2"
  extent_size = 2048
  physical_volumes { ${pv('pv0', 'a')} ${pv('pv1', 'b')} }
  logical_volumes { ${volumes} }
}
contents = "Text Format Volume Group"
description = "a \\"quoted\\" word"
`;
const linear = 'start_extent = 0 extent_count = 8 type = "striped" stripe_count = 1 stripes = ["pv0", 3]';

test('linear and striped segments, in bytes', () => {
  const striped =
    'start_extent = 8 extent_count = 4 type = "striped" stripe_count = 2 stripe_size = 128 stripes = ["pv0", 20, "pv1", 0]';
  const { name, seqno, volumes } = readVolumeGroup(group(lv('root', linear, striped)));
  expect([name, seqno]).toEqual(['vg0', 6]);
  const mib = 1024 * 1024;
  expect(volumes).toEqual([
    {
      name: 'root',
      sizeBytes: 12 * mib,
      kind: 'linear+striped',
      segments: [
        {
          startBytes: 0,
          lengthBytes: 8 * mib,
          stripeBytes: 8 * mib,
          parts: [{ pv: 'a'.repeat(38), offsetBytes: 4 * mib }],
        },
        {
          startBytes: 8 * mib,
          lengthBytes: 4 * mib,
          stripeBytes: 65_536,
          parts: [
            { pv: 'a'.repeat(38), offsetBytes: 21 * mib },
            { pv: 'b'.repeat(38), offsetBytes: mib },
          ],
        },
      ],
    },
  ]);
});

test.each(['thin', 'raid1', 'cache', 'snapshot', 'mirror', 'error'])('%s needs more than reading', (type) => {
  const { volumes } = readVolumeGroup(
    group(
      lv('odd', `start_extent = 0 extent_count = 3 type = "${type}" thin_pool = "pool" transaction_id = 1`),
    ),
  );
  expect(volumes).toMatchObject([{ name: 'odd', kind: type, segments: null }]);
});

test('hidden volumes and names that LVM would not take are left out', () => {
  const hidden = lv('pool_tdata', linear).replace(', "VISIBLE"', '');
  const evil = ['..', 'a/b', `x${'y'.repeat(200)}`].map((name) => lv(name, linear));
  for (const text of evil.slice(1, 2))
    expect(() => readVolumeGroup(group(text))).toThrow('belongs to nothing');
  const { volumes } = readVolumeGroup(
    group([hidden, evil[2], lv('-dash', linear), lv('good', linear)].join('\n')),
  );
  expect(volumes.map(({ name }) => name)).toEqual(['good']);
});

test.each([
  ['', 'names no volume group'],
  ['vg0 {', 'ends too early|names no volume group|a } is missing'],
  ['vg0 { id = }', 'is no value'],
  ['vg0 { } }', 'bracket too many'],
  ['vg0 { a { b { c { d { e { f { g { h { i { } } } } } } } } } }', 'nested too deep'],
  [group(lv('a', linear)).replace('extent_size = 2048', 'extent_size = -1'), 'extent_size'],
  [group(lv('a', linear)).replace('seqno = 6', 'seqno = "six"'), 'seqno'],
  [group(lv('a', linear.replace('start_extent = 0', 'start_extent = 1'))), 'segment 1 of a'],
  [group(lv('a', linear.replace('extent_count = 8', 'extent_count = 0'))), 'segment 1 of a'],
  [group(lv('a', linear.replace('extent_count = 8', 'extent_count = 9007199254740991'))), 'too large'],
  [group(lv('a', linear).replace('segment_count = 1', 'segment_count = 99999999')), 'segment_count'],
])('%j is refused', (text, reason) => {
  expect(() => readVolumeGroup(text)).toThrow(new RegExp(reason));
});

test('a stripe on a physical volume that is not listed makes the volume unusable', () => {
  for (const name of ['pv9', '__proto__', 'constructor']) {
    const { volumes } = readVolumeGroup(group(lv('a', linear.replace('"pv0"', `"${name}"`))));
    expect(volumes).toMatchObject([{ segments: null }]);
  }
});

test('values of all kinds', () => {
  expect(parseLvmText('a = 1\nb = "x \\"y\\""\nc = [1, "2", []]\nd { e = -1.5 }')).toEqual({
    a: 1,
    b: 'x "y"',
    c: [1, '2', []],
    d: { e: -1.5 },
  });
});
