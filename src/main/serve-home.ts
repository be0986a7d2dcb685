import { rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { listenTls, type TlsListener } from '../api/tls/listen-tls.ts';
import type { Config } from '../base/config/config-schema.ts';
import type { HomePaths } from '../base/home/home-paths.ts';
import type { Logger } from '../base/logger.ts';
import { listen } from './home-socket.ts';

interface Serving {
  readonly config: Config;
  readonly credentials: Parameters<typeof listenTls>[1] | null;
  readonly logger: Logger;
  readonly paths: HomePaths;
  /** Told of each connection that came over the socket of the home. */
  readonly isLocal: (socket: Socket) => void;
}

export interface Served {
  /** Null: it is not served over TLS. */
  readonly tls: TlsListener | null;
  /** Nobody new is let in. */
  close(): void;
  /** Cuts off who is still there. */
  end(): void;
  forget(): Promise<void>;
}

/** Serves REST on the socket of the home, and over TLS when that is wanted. */
export async function serveHome(app: RequestListener, serving: Serving): Promise<Served> {
  const { config, credentials, logger, paths, isLocal } = serving;
  const pidFile = join(paths.runFolder, 'sendensed.pid');
  const server = createHttpServer(app);
  server.on('connection', isLocal);
  const tls = credentials === null ? null : await listenTls(config.api.listen, credentials, app);
  if (tls !== null)
    logger.info({ address: tls.address, fingerprint: tls.fingerprint }, 'serves the API over TLS');
  await listen(server, paths.socketFile, config.api.socket_group);
  await writeFile(pidFile, `${process.pid}\n`);
  return {
    tls,
    close: () => {
      server.close();
      tls?.server.close();
    },
    end: () => {
      server.closeAllConnections();
      tls?.server.closeAllConnections();
    },
    forget: async () => {
      await rm(paths.socketFile, { force: true });
      await rm(pidFile, { force: true });
    },
  };
}
