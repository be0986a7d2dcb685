import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * One S3 server for a whole run of the tests, in the folder of `scripts/test` or one of its own, started by the first test that wants one (`s3-server.ts`) and ended here.
 * @returns called when all tests are over
 */
export default function setup(): () => void {
  const given = process.env['TEST_S3_FOLDER'];
  const folder = given ?? mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'sd-s3-'));
  mkdirSync(folder, { recursive: true });
  process.env['TEST_S3_FOLDER'] = folder;
  return () => {
    if (existsSync(join(folder, 'ceph.conf')))
      execFileSync(join('scripts', 's3-server'), ['stop', '--dir', folder]);
    rmSync(folder, { recursive: true, force: true });
  };
}
