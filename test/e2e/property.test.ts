import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { Operator } from '../support/operator.ts';
import { seededRandom } from '../support/seeded-random.ts';

const MIB = 1024 * 1024;
const seed = Number(process.env['PROPERTY_SEED'] ?? Math.floor(Math.random() * 1e9));

it(`keeps every restore point identical through random writes, backups and deletions (PROPERTY_SEED=${seed})`, async () => {
  const { next, pick } = seededRandom(seed);
  const work = mkdtempSync(join(tmpdir(), 'sd-prop-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const machines = ['one', 'two'];
  const sizes = new Map(machines.map((name) => [name, 24 * MIB + Math.floor(next() * 8) * 512]));
  const points: { id: string; vm: string }[] = [];
  const disk = (vm: string) => join(work, vm);
  const write = (vm: string) => {
    const size = sizes.get(vm) ?? 0;
    const handle = openSync(disk(vm), 'r+');
    for (let count = Math.floor(next() * 6); count > 0; count -= 1) {
      const length = Math.min(size, 512 * Math.ceil(next() * pick([1, 8, 200, 5000])));
      const offset = Math.floor((next() * (size - length)) / 512) * 512;
      writeSync(
        handle,
        next() < 0.35 ? Buffer.alloc(length) : bytesOf(String(next()), length),
        0,
        length,
        offset,
      );
    }
    closeSync(handle);
    if (next() < 0.15) {
      sizes.set(vm, size + Math.floor(next() * 6) * MIB + 512);
      truncateSync(disk(vm), sizes.get(vm));
    }
  };
  try {
    let backend = 'nbd-server';
    await appliance.start([`exports.backend=${backend}`]);
    for (const vm of machines) {
      writeFileSync(disk(vm), '');
      truncateSync(disk(vm), sizes.get(vm));
      appliance.json('vm', 'add', vm, '--disk', disk(vm));
    }
    for (let round = 0; round < 24; round += 1) {
      if (round === 12) {
        await appliance.stop();
        backend = 'storage-daemon';
        await appliance.start([`exports.backend=${backend}`]);
      }
      const vm = pick(machines);
      write(vm);
      const shown = operator.backUp(
        vm,
        pick(['full', 'incremental', 'incremental', 'incremental', 'differential']),
      );
      copyFileSync(disk(vm), join(work, shown.backup_id));
      points.push({ id: shown.backup_id, vm });
      if (next() < 0.25) {
        const victim = pick(points);
        const answer = appliance.json<{ backup_ids: string[] }>('backup', 'delete', victim.id, '--cascade');
        for (const id of answer.backup_ids)
          points.splice(
            points.findIndex((point) => point.id === id),
            1,
          );
      }
    }
    const listed = operator.backups().map((backup) => backup.backup_id);
    expect(listed.toSorted()).toEqual(points.map((point) => point.id).toSorted());
    for (const { id } of points) {
      const shown = appliance.json<{ disks: { layer: string }[] }>('backup', 'show', id);
      // layers of two machines may share a name; the one of this backup lies beside a sidecar that names it
      const sidecar =
        sh('grep', '-rl', `"backup_id": "${id}"`, '--include=*.json', join(appliance.home, 'backups'))
          .split('\n')
          .find((path) => path.includes('/disk-0/')) ?? '';
      const layer = join(sidecar, '..', shown.disks[0]?.layer ?? '');
      sh('qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', 'raw', layer, join(work, id));
      sh('qemu-img', 'check', '-q', layer);
    }
  } finally {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  }
});
