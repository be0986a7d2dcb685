import { NbdConnection } from '../../client/nbd-connection.ts';
import { NbdReplyError } from '../../client/protocol.ts';
import { StatusCursor } from '../changes/status-cursor.ts';
import { type BlockReader, readFailure, type SourceExtent } from './block-reader.ts';
import type { SourceSpec } from './source-spec.ts';

/** One connection alone leaves QEMU waiting for us between two requests. */
const DATA_CONNECTIONS = 2;
const DIRTY = 1;
const ZERO = 2;

/** An NBD export, for sources that are no plain bytes, and for those that know what changed. */
export async function openNbdReader(spec: SourceSpec & { kind: 'nbd' }): Promise<BlockReader> {
  const { path, sizeBytes } = spec;
  let open = await connect(spec);
  let turn = 0;
  return {
    path,
    sizeBytes,
    knowsChanges: spec.changes !== undefined,
    extents: (from) => extentsOf(open, sizeBytes, from),
    read: async (pool, offset, slot, length) => {
      turn = (turn + 1) % open.data.length;
      try {
        await open.data[turn]?.read(offset, pool.slot(slot, length));
      } catch (error) {
        // an answer means that the image itself cannot be read there; asking again would not help
        if (error instanceof NbdReplyError) throw readFailure(path, offset, error.errno, error);
        throw error;
      }
      return await pool.digest(slot, length);
    },
    reconnect: async () => {
      for (const connection of open.all) connection.destroy();
      open = await connect(spec);
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(open.all.map((connection) => connection.close()));
    },
  };
}

interface Connections {
  readonly data: readonly NbdConnection[];
  readonly allocation: NbdConnection;
  /** Null: nobody knows what changed. */
  readonly changes: readonly NbdConnection[] | null;
  readonly all: readonly NbdConnection[];
}

async function connect({ endpoint, changes }: SourceSpec & { kind: 'nbd' }): Promise<Connections> {
  const all: NbdConnection[] = [];
  const add = async (connection: Promise<NbdConnection>) => {
    const made = await connection;
    all.push(made);
    return made;
  };
  try {
    const allocation = await add(NbdConnection.connect(endpoint, { wantAllocation: true }));
    const data = [allocation];
    while (data.length < DATA_CONNECTIONS) data.push(await add(NbdConnection.connect(endpoint)));
    if (changes === undefined) return { data, allocation, changes: null, all };
    const maps: NbdConnection[] = [];
    for (const map of changes) {
      const connection = await add(NbdConnection.connect(map.endpoint, { statusContext: map.context }));
      if (!connection.canReportStatus)
        throw readFailure(endpoint.exportName, 0, `it has no ${map.context}`, null);
      maps.push(connection);
    }
    return { data, allocation, changes: maps, all };
  } catch (error) {
    for (const connection of all) connection.destroy();
    throw error;
  }
}

/** Where allocation and changes are both known, each extent is the stretch in which neither of them changes. */
async function* extentsOf(
  { allocation, changes }: Connections,
  sizeBytes: number,
  from: number,
): AsyncGenerator<SourceExtent> {
  const zeros = allocation.canReportStatus ? new StatusCursor(allocation, sizeBytes, ZERO) : null;
  // a map may be of an image that was smaller
  const maps = (changes ?? []).map(
    (connection) => new StatusCursor(connection, Math.min(connection.sizeBytes, sizeBytes), DIRTY),
  );
  for (let offset = from; offset < sizeBytes; ) {
    let end = sizeBytes;
    let zero = false;
    if (zeros !== null) {
      const stretch = await zeros.at(offset);
      zero = stretch.isSet;
      end = Math.min(end, stretch.end);
    }
    let changed = false;
    for (const map of maps) {
      const stretch = await map.at(offset);
      changed ||= stretch.isSet;
      end = Math.min(end, stretch.end);
    }
    yield { offset, length: end - offset, zero, ...(changes === null ? {} : { changed }) };
    offset = end;
  }
}
