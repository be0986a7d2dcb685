import { expect, it } from 'vitest';
import { type MergeLayer, planCut, planMerges } from './plan-merge.ts';

const layer = (name: string, parent: string | null, bytes: number, retired = false): MergeLayer => ({
  layer: name,
  parent,
  bytes,
  retired,
  owned: true,
});

it('merges the oldest incremental into a retired full', () => {
  const layers = [layer('full', null, 100, true), layer('i1', 'full', 5), layer('i2', 'i1', 5)];
  expect(planMerges(layers)).toEqual([
    { operation: 'commit', top: 'i1', into: 'full', between: [], parent: null, bytes: 5 },
  ]);
});

it('takes a run of retired layers in one step', () => {
  const layers = [
    layer('full', null, 100, true),
    layer('i1', 'full', 5, true),
    layer('i2', 'i1', 6, true),
    layer('i3', 'i2', 7),
  ];
  expect(planMerges(layers)).toEqual([
    { operation: 'commit', top: 'i3', into: 'full', between: ['i2', 'i1'], parent: null, bytes: 18 },
  ]);
});

it('moves the smaller side of a middle layer', () => {
  const small = [layer('full', null, 100), layer('i1', 'full', 5, true), layer('i2', 'i1', 50)];
  expect(planMerges(small)).toEqual([
    { operation: 'stream', top: 'i2', removed: ['i1'], parent: 'full', bytes: 5 },
  ]);
  const big = [layer('full', null, 100), layer('i1', 'full', 50, true), layer('i2', 'i1', 5)];
  expect(planMerges(big)).toEqual([
    { operation: 'commit', top: 'i2', into: 'i1', between: [], parent: 'full', bytes: 5 },
  ]);
});

it('leaves a retired layer alone that several need, and merges what is below it', () => {
  const siblings = [layer('full', null, 100, true), layer('d1', 'full', 5), layer('d2', 'full', 5)];
  expect(planMerges(siblings)).toEqual([]);
  const below = [
    layer('full', null, 100, true),
    layer('i1', 'full', 5, true),
    layer('i2', 'i1', 5),
    layer('i3', 'i1', 5),
  ];
  expect(planMerges(below)).toEqual([
    { operation: 'commit', top: 'i1', into: 'full', between: [], parent: null, bytes: 5 },
  ]);
});

it('touches nothing around a layer whose papers disagree', () => {
  const strange = { ...layer('i1', 'full', 5), owned: false };
  expect(planMerges([layer('full', null, 100, true), strange])).toEqual([]);
});

it('touches nothing of a broken chain and nothing that is alive', () => {
  expect(planMerges([layer('i1', 'lost', 5, true), layer('i2', 'i1', 5)])).toEqual([]);
  expect(planMerges([layer('full', null, 100), layer('i1', 'full', 5), layer('i2', 'i1', 5)])).toEqual([]);
});

it('cuts only a chain that is too long', () => {
  const layers = [layer('full', null, 100), layer('i1', 'full', 5), layer('i2', 'i1', 5)];
  expect(planCut(layers, 'i2', 3)).toBeNull();
  expect(planCut(layers, 'i2', 2)).toEqual({ operation: 'full', top: 'i2', bytes: 110 });
});
