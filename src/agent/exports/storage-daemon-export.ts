import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeNames } from '../../nbd/exports/node-names.ts';
import { writableLayer } from '../../qemu/block-graph.ts';
import { escapeComma, StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { UndoStack } from '../../restore/mount/undo-stack.ts';
import type { AgentExportPlace, ServedExport, ServeOrder } from './agent-export.ts';

/** TLS 1.3 only, and never CHACHA20, which GnuTLS would choose with a PSK: 3.6 times the CPU time (measured). */
const PRIORITY = 'NORMAL:-VERS-ALL:+VERS-TLS1.3:-CHACHA20-POLY1305';

/** A qemu-storage-daemon for this one layer; over TCP behind a key of 256 bits that only the agent gets. */
export async function storageDaemonExport(
  { logger }: AgentExportPlace,
  { id, folder, layer, listening }: ServeOrder,
  undo: UndoStack,
): Promise<ServedExport> {
  const psk = listening.kind === 'tcp' ? await makeKey(join(folder, 'tls'), id) : null;
  const daemon = new StorageDaemon({
    logger,
    folder,
    ...(listening.kind === 'unix' || psk === null
      ? {}
      : {
          nbdServer: `addr.type=inet,addr.host=${listening.host},addr.port=${listening.port},tls-creds=tls0`,
          objects: [
            `tls-creds-psk,id=tls0,endpoint=server,priority=${PRIORITY},dir=${escapeComma(join(folder, 'tls'))}`,
          ],
        }),
  });
  undo.push('stop the storage daemon', () => daemon.stop());
  await daemon.start();
  const node = nodeNames.next();
  await daemon.openImage(node, writableLayer(layer.path, layer.parents));
  // flushes and closes the layer: whoever seals it next must see all of it
  undo.push('close the layer', () => daemon.closeImage(node));
  await daemon.addExport(node, `x${node}`, { type: 'nbd', exportName: layer.exportName, writable: true });
  return {
    tls: psk === null ? null : { kind: 'psk', identity: id, keyHex: psk },
    ...{ socketPath: daemon.nbdSocket, canWriteZeroes: true },
  };
}

async function makeKey(folder: string, identity: string): Promise<string> {
  const key = randomBytes(32).toString('hex');
  await mkdir(folder, { mode: 0o700 });
  await writeFile(join(folder, 'keys.psk'), `${identity}:${key}\n`, { mode: 0o600 });
  return key;
}
