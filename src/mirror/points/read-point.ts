import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import { digestOf, type KeyRing } from '../crypto/key-ring.ts';
import {
  type ChainDocument,
  chainDocument,
  manifestDocument,
  type PointManifest,
  type RepositoryDocuments,
  repositoryDocuments,
} from '../documents.ts';
import { layout, pointIn } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { parseJson } from '../store/json-objects.ts';
import { decodeRows } from './block-rows.ts';
import { BlockTable } from './block-table.ts';

type Readable = Pick<Mirror, 'store' | 'keys' | 'mirrorId'>;

/** A manifest with its proof. */
export function sealManifest(keys: KeyRing, content: Omit<PointManifest, 'mac'>): PointManifest {
  return { ...content, mac: keys.mac(JSON.stringify(content)) };
}

export function sealDocuments(
  keys: KeyRing,
  name: string,
  documents: RepositoryDocuments,
): PointManifest['documents'] {
  if (!keys.isEncrypted) return documents;
  const sealed = keys.seal(zstdCompressSync(Buffer.from(JSON.stringify(documents))), `documents ${name}`);
  return { sealed: sealed.toString('base64') };
}

/** @throws MIRROR_OBJECT_DAMAGED */
export function documentsOf(keys: KeyRing, { name, documents }: PointManifest): RepositoryDocuments {
  if (!('sealed' in documents)) return documents;
  const key = layout.manifest(name);
  const packed = keys.open(Buffer.from(documents.sealed, 'base64'), `documents ${name}`);
  if (packed === null)
    throw new SendenseError('MIRROR_OBJECT_DAMAGED', { key, detail: 'its documents do not open' });
  return repositoryDocuments.parse(JSON.parse(zstdDecompressSync(packed).toString()));
}

/** @throws MIRROR_OBJECT_MISSING, MIRROR_OBJECT_DAMAGED, MIRROR_TOO_NEW */
export async function readManifest(mirror: Readable, name: string): Promise<PointManifest> {
  return await readProvenManifest(mirror, name, layout.manifest(name));
}

/** Of a point that others stand on; it may have been deleted for people. */
export async function readBaseManifest(mirror: Readable, name: string): Promise<PointManifest> {
  try {
    return await readManifest(mirror, name);
  } catch (error) {
    if (!hasCode(error, 'MIRROR_OBJECT_MISSING')) throw error;
    return await readProvenManifest(mirror, name, layout.retired(name)).catch((again: unknown) => {
      throw hasCode(again, 'MIRROR_OBJECT_MISSING') ? error : again;
    });
  }
}

/** The manifest of a point that was deleted while others stood on it, as it is stored; null: there is none. */
export async function readRetired({ store }: Pick<Mirror, 'store'>, name: string): Promise<Buffer | null> {
  try {
    return (await store.get(layout.retired(name))).body;
  } catch (error) {
    if (hasCode(error, 'MIRROR_OBJECT_MISSING')) return null;
    throw error;
  }
}

async function readProvenManifest(mirror: Readable, name: string, key: string): Promise<PointManifest> {
  const manifest = parseJson(key, (await mirror.store.get(key)).body, manifestDocument);
  const { mac, ...content } = manifest;
  const damaged = (detail: string) => new SendenseError('MIRROR_OBJECT_DAMAGED', { key, detail });
  if (!mirror.keys.isMac(JSON.stringify(content), mac)) throw damaged('its proof does not fit its content');
  if (manifest.name !== name || manifest.mirror_id !== mirror.mirrorId)
    throw damaged('it belongs to another place');
  return manifest;
}

/** @throws MIRROR_OBJECT_MISSING, MIRROR_OBJECT_DAMAGED */
export async function readChain(mirror: Readable, manifest: PointManifest): Promise<ChainDocument> {
  const key = layout.chain(manifest.name);
  return parseJson(key, await proven(mirror, key, manifest.chain_digest), chainDocument);
}

/** @throws MIRROR_OBJECT_MISSING, MIRROR_OBJECT_DAMAGED */
export async function readTable(mirror: Readable, manifest: PointManifest): Promise<BlockTable> {
  const body = await proven(mirror, layout.rows(manifest.name), manifest.blocks_digest);
  const table = new BlockTable();
  for (const row of decodeRows(mirror.keys, manifest.name, body)) table.add(row);
  return table;
}

async function proven({ store }: Readable, key: string, digest: string): Promise<Buffer> {
  const { body } = await store.get(key);
  if (digestOf(body) === digest) return body;
  throw new SendenseError('MIRROR_OBJECT_DAMAGED', { key, detail: 'it is not what its manifest says' });
}

/** One point of a chain in the mirror, ready to be read. */
export interface OpenPoint {
  readonly manifest: PointManifest;
  readonly chain: ChainDocument;
  readonly table: BlockTable;
}

/**
 * A point and all it stands on, newest first.
 * @param isRetired also when it was deleted and others stand on it
 * @throws MIRROR_OBJECT_MISSING, MIRROR_OBJECT_DAMAGED
 */
export async function openPointChain(
  mirror: Readable,
  name: string,
  { isRetired = false } = {},
): Promise<OpenPoint[]> {
  const opened: OpenPoint[] = [];
  for (let next: string | null = name; next !== null; ) {
    const read = opened.length === 0 && !isRetired ? readManifest : readBaseManifest;
    const manifest: PointManifest = await read(mirror, next);
    const chain: ChainDocument = await readChain(mirror, manifest);
    opened.push({ manifest, chain, table: await readTable(mirror, manifest) });
    const base: string | null = chain.baseSnapshotName;
    if (base !== null && opened.some((point) => point.manifest.name === base))
      throw new SendenseError('MIRROR_OBJECT_DAMAGED', {
        key: layout.chain(next),
        detail: 'its chain has no end',
      });
    next = base;
  }
  return opened;
}

/** Names of all points whose manifest stands. */
export async function listPointNames({ store }: Pick<Mirror, 'store'>): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of store.list(layout.metadata)) {
    const name = pointIn(key);
    if (name !== null) names.push(name);
  }
  return names;
}
