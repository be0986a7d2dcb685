import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { kill } from '../../src/base/process/owned-processes.ts';
import { NbdConnection, type NbdEndpoint, probeExport } from '../../src/nbd/client/nbd-connection.ts';
import type { ExportBackend, OpenExport } from '../../src/nbd/exports/export-backend.ts';
import { NbdServer } from '../../src/nbd/exports/nbd-server.ts';
import { nbdServerBackend } from '../../src/nbd/exports/nbd-server-backend.ts';
import { storageDaemonBackend } from '../../src/nbd/exports/storage-daemon-backend.ts';
import { createLayer } from '../../src/qemu/qemu-img.ts';
import { StorageDaemon } from '../../src/qemu/storage-daemon.ts';
import { probeToolVersions } from '../../src/qemu/tool-versions.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';

const MIB = 1024 * 1024;
/** The faulty nbd-server of Debian 12 starts a new parent for each batch, which takes its time. */
const CYCLES = 1_000;
const ADDERS = 8;

/** As the mover does: while a parent is replaced nobody listens for a moment. */
async function connectPatiently(endpoint: NbdEndpoint): Promise<NbdConnection> {
  for (let round = 0; ; round += 1) {
    try {
      return await NbdConnection.connect(endpoint);
    } catch (error) {
      if (round > 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

describe.each(['nbd-server', 'storage-daemon'] as const)('exports through %s', (kind) => {
  const work = mkdtempSync(join(tmpdir(), 'sd-exp-'));
  const logger = createLogger('error');
  const daemon = new StorageDaemon({ logger, folder: work });
  let server: NbdServer | null = null;
  let backend: ExportBackend;
  const layer = async (name: string, sizeBytes: number) => {
    const path = join(work, `${name}.qcow2`);
    await createLayer(path, sizeBytes, null);
    return { path, parents: [], sizeBytes, exportName: name };
  };

  beforeAll(async () => {
    mkdirSync(join(work, 'fuse'));
    mkdirSync(join(work, 'nbd'));
    await daemon.start();
    if (kind === 'nbd-server') {
      const version = (await probeToolVersions()).nbdServer ?? [0, 0];
      server = new NbdServer({ logger, runFolder: join(work, 'nbd'), version, onNotice: () => undefined });
      await server.start();
      backend = nbdServerBackend({ daemon, server, fuseFolder: join(work, 'fuse') });
    } else backend = storageDaemonBackend(daemon);
  });
  afterAll(async () => {
    await server?.stop();
    await daemon.stop();
    rmSync(work, { recursive: true, force: true });
  });

  it('serves 40 at once, each its own bytes', async () => {
    const opened = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const spec = await layer(`backup-many-${index}`, 2 * MIB + index * 512);
        return { spec, index, open: await backend.open(spec) };
      }),
    );
    await Promise.all(
      opened.map(async ({ open, index }) => {
        await using connection = await NbdConnection.connect(open.endpoint);
        await connection.write(index * 512, bytesOf(`many ${index}`, 4096));
        await connection.flush();
      }),
    );
    for (const { open } of opened) await open.close();
    for (const { spec, index } of opened) {
      sh('qemu-img', 'convert', '-O', 'raw', spec.path, join(work, 'out.raw'));
      expect(
        readFileSync(join(work, 'out.raw'))
          .subarray(index * 512, index * 512 + 4096)
          .equals(bytesOf(`many ${index}`, 4096)),
      ).toBe(true);
    }
  });

  it('refuses a late client after an export was closed', async () => {
    const open = await backend.open(await layer('backup-late', MIB));
    await open.close();
    await expect(probeExport(open.endpoint, 2_000)).rejects.toThrow();
  });

  it(`fails no transfer through ${CYCLES} cycles of add and remove`, async () => {
    const source = join(work, 'source.raw');
    writeFileSync(source, bytesOf('transfer', 16 * MIB));
    const content = readFileSync(source);
    let cyclesLeft = CYCLES;
    let transfers = 0;
    const failures: string[] = [];
    const cycle = async (adder: number) => {
      for (let count = 0; cyclesLeft > 0; count += 1) {
        cyclesLeft -= 1;
        const spec = await layer(`backup-cycle-${adder}-${count}`, MIB);
        const open = await backend.open(spec);
        await open.close();
        rmSync(spec.path);
      }
    };
    // each transfer keeps one connection over many reloads, and verifies what it wrote through it
    const transfer = async (worker: number) => {
      for (let round = 0; cyclesLeft > 0 || round === 0; round += 1) {
        const spec = await layer(`backup-transfer-${worker}-${round}`, content.length);
        const open: OpenExport = await backend.open(spec);
        try {
          await using connection = await connectPatiently(open.endpoint);
          for (let offset = 0; offset < content.length; offset += MIB) {
            await connection.write(offset, content.subarray(offset, offset + MIB));
            await new Promise((resolve) => setTimeout(resolve, 150));
          }
          await connection.flush();
          transfers += 1;
        } catch (error) {
          failures.push(String(error));
        }
        await open.close();
        sh('qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', 'raw', spec.path, source);
        rmSync(spec.path);
      }
    };
    await Promise.all([
      ...Array.from({ length: ADDERS }, (_, adder) => cycle(adder)),
      transfer(0),
      transfer(1),
    ]);
    expect(failures).toEqual([]);
    expect(transfers).toBeGreaterThanOrEqual(2);
  }, 900_000);

  it.runIf(kind === 'nbd-server')('replaces a parent that dies, while a transfer goes on', async () => {
    const open = await backend.open(await layer('backup-parent', 8 * MIB));
    const connection = await NbdConnection.connect(open.endpoint);
    await connection.write(0, bytesOf('before', MIB));
    const dead = server?.pid ?? 0;
    kill(dead, 'SIGKILL');
    await connection.write(MIB, bytesOf('after', MIB));
    await connection.flush();
    const late = await backend.open(await layer('backup-after-death', MIB));
    expect(server?.pid).not.toBe(dead);
    await connection.close();
    await late.close();
    await open.close();
  });

  it.runIf(kind === 'nbd-server')('moves a broken file out of conf.d and serves on', async () => {
    writeFileSync(join(work, 'nbd', 'conf.d', 'aaa.conf'), 'this is no configuration\n');
    writeFileSync(join(work, 'nbd', 'conf.d', 'bbb.conf'), '[x]\nflush = yes\n');
    const open = await backend.open(await layer('backup-broken', MIB));
    expect((await probeExport(open.endpoint, 2_000)).sizeBytes).toBe(MIB);
    await open.close();
    const broken = readdirSync(join(work, 'nbd', 'conf.d')).filter((name) => name.endsWith('.broken'));
    expect(broken.toSorted()).toEqual(['aaa.conf.broken', 'bbb.conf.broken']);
  });

  it('opens everything again when the storage daemon is killed', async () => {
    const spec = await layer('backup-qsd', 4 * MIB);
    const open = await backend.open(spec);
    kill(daemon.pid ?? 0, 'SIGKILL');
    for (let round = 0; ; round += 1) {
      const found = await probeExport(open.endpoint, 2_000).catch(() => null);
      if (found?.sizeBytes === spec.sizeBytes) break;
      expect(round).toBeLessThan(500);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await open.close();
  });
});
