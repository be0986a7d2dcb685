import { randomBytes } from 'node:crypto';
import { chmod, mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import { type ImageNode, readOnlyChain } from '../../qemu/block-graph.ts';
import { escapeComma, StorageDaemon } from '../../qemu/storage-daemon.ts';
import { readChainSize } from '../disk/chain-size.ts';
import { createOverlay } from '../disk/overlay.ts';
import { UndoStack } from '../mount/undo-stack.ts';
import { type ConnectLines, connectLines } from './connect-lines.ts';
import { tcpClients, unixClients } from './connected-clients.ts';

/** The user name that goes with every key. */
const PSK_IDENTITY = 'sendense';

export interface LivePlace {
  readonly logger: Logger;
  /** Sockets and keys go to `<liveId>` in it. */
  readonly runFolder: string;
  /** What clients write goes to `<liveId>` in it: a disk, never memory. */
  readonly overlayFolder: string;
  /** Most bytes that clients may write, over all disks of one export. */
  readonly overlayLimitBytes: number;
  /** Told when the storage daemon died and serves again. */
  readonly onRestart: (liveId: string, outcome: string) => void;
}

export interface LiveRequest {
  readonly liveId: string;
  readonly disks: readonly { readonly diskIndex: number; readonly chain: readonly string[] }[];
  readonly writable: boolean;
  /** Null: a unix socket. */
  readonly tcp: { readonly host: string; readonly port: number; readonly tls: boolean } | null;
}

export interface LiveDisk {
  readonly diskIndex: number;
  readonly exportName: string;
  readonly sizeBytes: number;
  readonly connect: ConnectLines;
  /** Newest first: the overlay if it is writable, then the layers. */
  readonly images: readonly string[];
}

/** A restore point that is served until it is closed. */
export interface OpenLive {
  readonly liveId: string;
  readonly disks: readonly LiveDisk[];
  readonly socketPath: string | null;
  readonly tcp: LiveRequest['tcp'];
  /** Handed out once, when it is opened. */
  readonly psk: { readonly identity: string; readonly key: string } | null;
  clients(): Promise<number>;
  /** What clients wrote, in bytes on disk. */
  overlayBytes(): Promise<number>;
  /**
   * Takes a disk away from its clients; everything they wrote is then in its overlay.
   * @throws LIVE_BUSY while a client is connected, unless it is cut off
   */
  withdraw(diskIndex: number, disconnect: boolean): Promise<void>;
  /** Serves a disk that was withdrawn, with what was written to it. */
  serve(diskIndex: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * Serves a restore point with a storage daemon of its own. Layers are opened read-only, whatever clients do: what
 * they write goes to an overlay that is thrown away at the end. When the storage daemon dies it is started again on
 * the same overlay, and clients can connect again; what they had flushed is there.
 * @throws LAYER_REFUSED, CHAIN_PARENT_MISSING, TOOL_FAILED as for a port that is taken; nothing is left then
 */
export async function openLive(place: LivePlace, request: LiveRequest): Promise<OpenLive> {
  const undo = new UndoStack();
  try {
    return await setUp(place, request, undo);
  } catch (error) {
    await undo.unwindAll(place.logger);
    throw error;
  }
}

async function setUp(place: LivePlace, request: LiveRequest, undo: UndoStack): Promise<OpenLive> {
  const { liveId, writable, tcp } = request;
  const folder = join(place.runFolder, liveId);
  const overlays = join(place.overlayFolder, liveId);
  await mkdir(folder, { recursive: true, mode: 0o750 });
  undo.push(`remove ${folder}`, () => rm(folder, { recursive: true, force: true }));
  await mkdir(overlays, { recursive: true, mode: 0o700 });
  undo.push(`remove ${overlays}`, () => rm(overlays, { recursive: true, force: true }));
  const psk = tcp?.tls ? await makeKey(join(folder, 'tls')) : null;
  const credentials = psk === null ? '' : ',tls-creds=tls0';
  const daemon: StorageDaemon = new StorageDaemon({
    logger: place.logger,
    folder,
    ...(tcp === null
      ? {}
      : { nbdServer: `addr.type=inet,addr.host=${tcp.host},addr.port=${tcp.port}${credentials}` }),
    objects:
      psk === null ? [] : [`tls-creds-psk,id=tls0,endpoint=server,dir=${escapeComma(join(folder, 'tls'))}`],
    onServing: async () => {
      // for the daemon's own group, whose members may use REST anyway
      if (tcp === null) await chmod(daemon.nbdSocket, 0o660);
    },
    onRestart: (outcome) => place.onRestart(liveId, outcome),
  });
  undo.push('stop the storage daemon', () => daemon.stop());
  await daemon.start();

  const limitBytes = place.overlayLimitBytes / Math.max(1, request.disks.length);
  const nodes = new Map<number, ImageNode>();
  const disks: LiveDisk[] = [];
  for (const { diskIndex, chain } of request.disks) {
    const sizeBytes = await readChainSize(chain);
    const overlay = join(overlays, `disk${diskIndex}.qcow2`);
    const below = readOnlyChain(chain);
    if (below === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
    const node = writable ? await createOverlay(overlay, below, sizeBytes, limitBytes) : below;
    nodes.set(diskIndex, node);
    const exportName = `disk${diskIndex}`;
    const connect = connectLines({
      exportName,
      writable,
      socketPath: tcp === null ? daemon.nbdSocket : null,
      // every address of this machine is no address to connect to
      host: tcp === null ? '' : ['0.0.0.0', '::'].includes(tcp.host) ? hostname() : tcp.host,
      port: tcp?.port ?? 0,
      pskIdentity: psk?.identity ?? null,
    });
    disks.push({ diskIndex, exportName, sizeBytes, connect, images: writable ? [overlay, ...chain] : chain });
  }
  const serve = async (diskIndex: number) => {
    const node = nodes.get(diskIndex);
    if (node === undefined) throw new SendenseError('INTERNAL', { detail: 'no such disk' });
    const name = `disk${diskIndex}`;
    await daemon.openImage(name, node);
    await daemon.addExport(name, name, { type: 'nbd', exportName: name, writable });
  };
  for (const { diskIndex } of disks) await serve(diskIndex);
  return {
    liveId,
    disks,
    socketPath: tcp === null ? daemon.nbdSocket : null,
    tcp,
    psk,
    clients: () => (tcp === null ? unixClients(daemon.nbdSocket) : tcpClients(tcp.port)),
    overlayBytes: async () => {
      if (!writable) return 0;
      const files = await Promise.all(disks.map(({ images }) => stat(images[0] ?? '').catch(() => null)));
      return files.reduce((sum, file) => sum + (file === null ? 0 : file.blocks * 512), 0);
    },
    withdraw: async (diskIndex, disconnect) => {
      try {
        await daemon.closeImage(`disk${diskIndex}`, { onlyIdle: !disconnect });
      } catch (error) {
        if (disconnect || !hasCode(error, 'QMP_FAILED')) throw error;
        throw new SendenseError('LIVE_BUSY', { live: liveId, detail: 'a client is connected' }, error);
      }
    },
    serve,
    close: () => undo.unwind({ force: true }),
  };
}

/** A key of 256 random bits, where QEMU looks for it. */
async function makeKey(folder: string): Promise<{ identity: string; key: string }> {
  const key = randomBytes(32).toString('hex');
  await mkdir(folder, { mode: 0o700 });
  await writeFile(join(folder, 'keys.psk'), `${PSK_IDENTITY}:${key}\n`, { mode: 0o600 });
  return { identity: PSK_IDENTITY, key };
}
