import { closeSync, copyFileSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { LibvirtHost } from '../support/libvirt-host.ts';
import { Operator } from '../support/operator.ts';
import { seededRandom } from '../support/seeded-random.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const ROUNDS = 8;
const seed = Number(process.env['PROPERTY_SEED'] ?? Math.floor(Math.random() * 1e9));

/** What the guest must have on its disk: kept by us, never read from QEMU. */
class Model {
  readonly path: string;
  sizeBytes: number;

  constructor(path: string, sizeBytes: number) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    writeFileSync(path, '');
    truncateSync(path, sizeBytes);
  }

  fill(offset: number, length: number, value: number): void {
    const handle = openSync(this.path, 'r+');
    writeSync(handle, Buffer.alloc(length, value), 0, length, offset);
    closeSync(handle);
  }

  grow(sizeBytes: number): void {
    this.sizeBytes = sizeBytes;
    truncateSync(this.path, sizeBytes);
  }
}

it(`restores what a running machine had at each instant, whatever was written, zeroed, discarded or grown (PROPERTY_SEED=${seed})`, async () => {
  const { next, below, pick } = seededRandom(seed);
  const host = new LibvirtHost();
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const targets = ['vda', 'vdb'];
  try {
    await host.start();
    const settings = [`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16', 'chain.max_depth=5'];
    await appliance.start(settings);
    host.define(
      'prop',
      targets.map((target) => ({ target, format: 'qcow2', sizeMib: 24 })),
    );
    host.run('prop');
    appliance.json('vm', 'add', 'prop', '--libvirt', 'prop', '--uri', host.uri, '--no-freeze');
    const models = new Map(
      targets.map((target) => [target, new Model(join(host.folder, `model-${target}`), 24 * MIB)]),
    );
    const change = (target: string, model: Model) => {
      const commands: string[] = [];
      for (let count = below(7); count > 0; count -= 1) {
        const length = 512 * (1 + below(pick([1, 8, 200, 3000])));
        const offset = 512 * below((model.sizeBytes - length) / 512);
        const place = `${offset} ${length}`;
        const kind = pick(['data', 'data', 'zeros', 'write zeroes', 'unmap', 'discard']);
        const value = kind === 'data' ? 1 + below(255) : 0;
        if (kind === 'data' || kind === 'zeros') commands.push(`write -P ${value} ${place}`);
        else if (kind === 'write zeroes') commands.push(`write -z ${place}`);
        else if (kind === 'unmap') commands.push(`write -z -u ${place}`);
        else {
          // only whole clusters are sure to read as zeros afterwards
          const start = Math.ceil(offset / (64 * KIB)) * 64 * KIB;
          const end = Math.floor((offset + length) / (64 * KIB)) * 64 * KIB;
          if (end <= start) continue;
          commands.push(`discard ${start} ${end - start}`);
          model.fill(start, end - start, 0);
          continue;
        }
        model.fill(offset, length, value);
      }
      if (commands.length > 0) host.write('prop', target, ...commands);
      if (next() < 0.15) {
        model.grow(model.sizeBytes + 512 * (1 + below(6000)));
        host.virsh('blockresize', 'prop', target, `${model.sizeBytes}B`);
      }
    };
    let deletions = 0;
    const points: { id: string; copies: string[] }[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [target, model] of models) change(target, model);
      if (next() < 0.2) {
        host.virsh('destroy', 'prop');
        if (next() < 0.5) host.run('prop');
      }
      const isOn = !host.virsh('domstate', 'prop').includes('shut off');
      const type = pick(['incremental', 'incremental', 'incremental', 'differential', 'full']);
      const shown = operator.backUp('prop', type);
      // nothing happened that could cost the bitmaps; only a chain may have become too long
      // or the oldest point of a chain was deleted, and the one that is it now has no checkpoint any more
      const expected = type === 'differential' && deletions > 0 ? /^$|layers|no checkpoint/ : /^$|layers/;
      const surprises = shown.disks.flatMap(({ reason }) => (expected.test(reason ?? '') ? [] : [reason]));
      if (round > 0) expect(surprises).toEqual([]);
      const copies = [...models].map(([target, model]) => {
        const copy = join(host.folder, `${shown.backup_id}-${target}`);
        copyFileSync(model.path, copy);
        return copy;
      });
      points.push({ id: shown.backup_id, copies });
      if (!isOn) host.run('prop');
      if (next() < 0.25 && points.length > 2) {
        deletions += 1;
        const [gone] = points.splice(below(points.length - 1), 1);
        if (gone) appliance.json('backup', 'delete', gone.id, '--merge');
      }
    }
    await operator.idle();
    for (const { id, copies } of points)
      for (const [index, copy] of copies.entries()) operator.expectRestored(id, index, copy);
    const verified = appliance.ctl('verify', 'vm', 'prop', '--wait');
    expect(verified.stderr).not.toContain('(');
    expect(verified.code).toBe(0);
    // the models are not of our making alone: QEMU reads the same
    for (const [target, model] of models) sh('cmp', host.rawCopy('prop', target), model.path);
  } finally {
    await appliance.dispose();
    await host.dispose();
  }
}, 240_000);
