import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TestAppliance } from '../test/support/appliance.ts';
import { sh } from '../test/support/guest-disk.ts';
import { newBucket, ownS3 } from '../test/support/s3-server.ts';

interface Scene {
  readonly appliance: TestAppliance;
  readonly work: string;
  readonly newest: string;
  /** As they are at the newest restore point. */
  readonly disks: readonly string[];
}

/** A mirror on a real S3 server; the whole home is lost; everything comes back from the bucket. */
export async function demoMirror(step: (text: string) => void, scene: Scene): Promise<void> {
  const { appliance, work, newest, disks } = scene;
  step('Starting an S3 server (Ceph RGW)');
  const server = await ownS3();
  try {
    const passphrase = join(work, 'passphrase');
    writeFileSync(passphrase, 'correct horse battery staple\n');
    const bucket = newBucket();
    const place = [
      ...['--endpoint', server.endpoint, '--bucket', bucket, '--access-key', server.accessKey],
      ...['--secret-key-file', server.secretKeyFile, '--passphrase-file', passphrase],
    ];
    step('Making an encrypted mirror and uploading all restore points');
    appliance.json('mirror', 'add', 'offsite', ...place, '--create-bucket');
    appliance.json('mirror', 'sync', 'offsite');
    step('Losing the appliance: switched off, its home deleted');
    await appliance.stop();
    rmSync(join(appliance.home, 'backups'), { recursive: true, force: true });
    rmSync(join(appliance.home, 'state'), { recursive: true, force: true });
    step('A new appliance with nothing but the bucket and the passphrase');
    const home = join(work, 'new-home');
    mkdirSync(home);
    const second = new TestAppliance(home);
    await second.start();
    try {
      second.json('mirror', 'attach', 'offsite', ...place);
      step('Mounting the newest restore point from the bucket and reading a file');
      second.json(
        ...['backup', 'extract', '--backup-id', `offsite/${newest}`, '--file', '/var/www/file-30.dat'],
        ...['--output', join(work, 'from-s3')],
      );
      step('Restoring both disks from the bucket and comparing them bit for bit');
      for (const [index, disk] of disks.entries()) {
        const output = join(work, `s3-${index}.img`);
        second.json(
          ...['restore', 'disk', '--backup-id', `offsite/${newest}`, '--disk', String(index)],
          ...['--output', output],
        );
        sh('cmp', output, disk);
      }
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : error}\n${second.log()}`);
    } finally {
      await second.stop();
    }
  } finally {
    server[Symbol.dispose]();
  }
}
