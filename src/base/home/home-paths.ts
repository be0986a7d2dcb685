import { join, resolve } from 'node:path';

/** Where everything of one appliance lives. */
export interface HomePaths {
  readonly home: string;
  readonly configFile: string;
  readonly catalogFile: string;
  readonly lockFile: string;
  /** What must outlive the daemon and is in no repository. */
  readonly stateFolder: string;
  readonly runFolder: string;
  readonly socketFile: string;
  readonly mountdSocketFile: string;
  readonly defaultRepositoryFolder: string;
  readonly mountFolder: string;
}

/** The folder layout of `--home DIR`; without a home the paths of an installed system. */
export function homePaths(home: string | null): HomePaths {
  if (home === null) {
    return {
      home: '/var/lib/sendense',
      configFile: '/etc/sendense/sendense.toml',
      catalogFile: '/var/lib/sendense/catalog.db',
      lockFile: '/var/lib/sendense/lock.db',
      stateFolder: '/var/lib/sendense',
      runFolder: '/run/sendense',
      socketFile: '/run/sendense/sendensed.sock',
      mountdSocketFile: '/run/sendense/mountd.sock',
      defaultRepositoryFolder: '/var/lib/sendense/backups',
      mountFolder: '/mnt/sendense',
    };
  }
  const root = resolve(home);
  return {
    home: root,
    configFile: join(root, 'etc', 'sendense.toml'),
    catalogFile: join(root, 'state', 'catalog.db'),
    lockFile: join(root, 'state', 'lock.db'),
    stateFolder: join(root, 'state'),
    runFolder: join(root, 'run'),
    socketFile: join(root, 'run', 'sendensed.sock'),
    mountdSocketFile: join(root, 'run', 'mountd.sock'),
    defaultRepositoryFolder: join(root, 'backups'),
    mountFolder: join(root, 'mnt'),
  };
}

/** The kernel's limit for a unix socket path (sun_path less its NUL), unix(7). */
export const MAX_SOCKET_PATH_BYTES = 107;
