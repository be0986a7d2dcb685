import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { sh } from '../support/guest-disk.ts';
import { demandVmImage } from '../support/vm-image.ts';

const NOBODY = '65534';
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sd-nobody-'));
  chmodSync(folder, 0o755);
  mkdirSync(join(folder, 'home', 'run'), { recursive: true });
  mkdirSync(join(folder, 'tree'));
  writeFileSync(join(folder, 'tree', 'secret'), 'only root reads this', { mode: 0o600 });
  writeFileSync(join(folder, 'tree', 'open'), 'everybody reads this', { mode: 0o644 });
  chmodSync(join(folder, 'tree'), 0o755);
  sh('mkfs.ext4', '-q', '-d', join(folder, 'tree'), join(folder, 'disk.img'), '32M');
  mkdirSync(join(folder, 'out'));
  const own = ['home', 'out', 'disk.img'].map((name) => join(folder, name));
  sh('chown', '-R', `${NOBODY}:${NOBODY}`, ...own);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/**
 * Runs commands beside a daemon that is nobody, in a mount namespace of its own with a fuse.conf of its own. Everything that
 * was started ends with it, and its mounts with the namespace.
 */
async function asNobody(options: { mountd: boolean; disk: string }, commands: string): Promise<string> {
  const script = `
    cd ${process.cwd()}
    export TMPDIR=${folder}
    echo user_allow_other > ${folder}/fuse.conf
    mount --bind ${folder}/fuse.conf /etc/fuse.conf
    if ${options.mountd}; then
      bin/sendense-mountd --home ${folder}/home > ${folder}/mountd.log 2>&1 & MOUNTD=$!
      while [ ! -S ${folder}/home/run/mountd.sock ]; do sleep 0.1; done
    fi
    setpriv --reuid ${NOBODY} --regid ${NOBODY} --clear-groups \
      env HOME=${folder} bin/sendensed --home ${folder}/home > ${folder}/daemon.log 2>&1 & DAEMON=$!
    trap 'kill $DAEMON; wait $DAEMON; [ -z "$MOUNTD" ] || kill $MOUNTD' EXIT
    for try in $(seq 100); do [ -S ${folder}/home/run/sendensed.sock ] && break; sleep 0.1; done
    ctl() { bin/sendense-ctl --home ${folder}/home "$@"; }
    set -e
    ctl vm add m --disk ${options.disk} > /dev/null
    ctl backup start --vm m --wait > /dev/null
    ${commands}`;
  try {
    const { stdout } = await promisify(execFile)('unshare', ['-m', 'sh', '-c', script], { timeout: 120_000 });
    return stdout;
  } catch (error) {
    const logs = ['mountd.log', 'daemon.log'].map((name) => {
      try {
        return readFileSync(join(folder, name), 'utf8').slice(-2000);
      } catch {
        return '';
      }
    });
    throw new Error(`${String(error)}\n${logs.join('\n')}`);
  }
}

const extract = (mode: string, file: string) =>
  `ctl backup extract --backup-id latest --mode ${mode} --file ${file} --output -
     echo`;

it('a daemon that is nobody backs up, mounts and reads in every mode, with mountd', async () => {
  demandVmImage();
  const disk = join(folder, 'disk.img');
  const text = await asNobody(
    { mountd: true, disk },
    `${extract('loop', '/open')}
     ${extract('userspace', '/secret')}
     ${extract('vm', '/secret')}
     ctl backup mount --backup-id latest -o json | grep -o '"mount_mode": *"[a-z]*"'
     stat -c %u $(ls -d ${folder}/home/mnt/*)
     ctl restore disk --backup-id latest --output ${folder}/out/copy.img > /dev/null
     cmp ${folder}/out/copy.img ${disk} && echo alike`,
  );
  expect(text.split('\n').map((line) => line.replaceAll(' ', ''))).toEqual([
    'everybodyreadsthis',
    'onlyrootreadsthis',
    'onlyrootreadsthis',
    '"mount_mode":"loop"',
    '0',
    'alike',
    '',
  ]);
});

it('without mountd it reads by programs of user space', async () => {
  const text = await asNobody(
    { mountd: false, disk: join(folder, 'disk.img') },
    `${extract('auto', '/secret')}
     ctl backup mount --backup-id latest -o json | grep -o '"mount_mode": *"[a-z]*"'
     ctl backup mount --backup-id latest --path ${folder}/out/here 2>&1 | grep -o PRIVILEGE_MISSING
     losetup -l | grep -c ${folder} || true`,
  );
  expect(text.split('\n').map((line) => line.replaceAll(' ', ''))).toEqual([
    'onlyrootreadsthis',
    '"mount_mode":"userspace"',
    'PRIVILEGE_MISSING',
    '0',
    '',
  ]);
});
