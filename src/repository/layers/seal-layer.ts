import { createReadStream } from 'node:fs';
import { readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import { pathExists } from 'fs-extra/esm';
import { syncFile, syncFolder, writeJsonDurably } from '../../base/durable-file.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { WrittenMap } from '../../nbd/mover/written-map.ts';
import { loneLayer } from '../../qemu/block-graph.ts';
import { headerObjection, readQcow2Header } from '../../qemu/qcow2-header.ts';
import { checkLayer, mapImage, repairLeaks } from '../../qemu/qemu-img.ts';
import type { Sidecar } from '../documents.ts';
import type { LayerFiles } from '../layout.ts';

/** What must hold of a layer that was just filled. */
export interface SealExpectation {
  readonly layer: string;
  readonly virtualSizeBytes: number;
  readonly backingName: string | null;
}

/**
 * Proves a closed layer before it gets its name: clean by `qemu-img check`, the header as ordered, and every
 * place that was written to present in this very file. Then makes it durable.
 * @throws SEAL_FAILED
 */
export async function sealLayer(
  files: LayerFiles,
  expected: SealExpectation,
  signal: AbortSignal,
): Promise<void> {
  const fail = (detail: string) => new SendenseError('SEAL_FAILED', { layer: expected.layer, detail });
  const check = await checkLayer(files.partial, signal);
  if (!check.clean) throw fail(check.detail);
  // a killed writer leaves clusters that nothing uses; they hold no data but would waste space for ever
  if (check.leaks) await repairLeaks(files.partial);
  const header = await readQcow2Header(files.partial);
  if (header === null || headerObjection(header) !== null || header.isDirty)
    throw fail('its header is not as it was made');
  if (header.backingFile !== expected.backingName || header.virtualSizeBytes !== expected.virtualSizeBytes)
    throw fail('its header was changed');
  await checkEverythingArrived(files, signal, fail);
  await syncFile(files.partial);
}

async function checkEverythingArrived(
  files: LayerFiles,
  signal: AbortSignal,
  fail: (detail: string) => SendenseError,
): Promise<void> {
  const written = new WrittenMap(await readFile(files.written));
  let lost: number | null = null;
  await mapImage(
    loneLayer(files.partial),
    (extent) => {
      if (!extent.present && lost === null) lost = written.firstMarked(extent.offset, extent.length);
    },
    signal,
  );
  if (lost !== null) throw fail(`what was written at byte ${lost} did not reach it`);
}

/** Gives the sealed layer and its rows their final names. Repeating it after a crash is fine. */
export async function nameLayer(files: LayerFiles): Promise<void> {
  await renameIfThere(files.partial, files.image);
  await renameIfThere(files.partialRows, files.rows);
  await rm(files.written, { force: true });
  await rm(files.journal, { force: true });
  await syncFolder(dirname(files.image));
}

async function renameIfThere(from: string, to: string): Promise<void> {
  if (await pathExists(from)) await rename(from, to);
}

/** The sidecar is written after the layer and its rows have their names. */
export async function writeSidecar(files: LayerFiles, sidecar: Sidecar): Promise<void> {
  await writeJsonDurably(files.sidecar, sidecar);
}

/** BLAKE3 of a file, as `b3sum` prints it. */
export async function digestFile(path: string): Promise<string> {
  const hasher = new Blake3Hasher();
  for await (const chunk of createReadStream(path)) hasher.update(chunk);
  return hasher.digestBuffer().toString('hex');
}

/** Removes all files of a layer that no manifest names. */
export async function discardLayer(files: LayerFiles): Promise<void> {
  for (const path of [
    files.sidecar,
    files.rows,
    files.image,
    files.partialRows,
    files.written,
    files.journal,
    files.partial,
  ]) {
    await rm(path, { force: true });
  }
}
