import { SendenseError } from '../../../base/sendense-error.ts';

/** How to reach the machine on which a libvirt runs with other programs than virsh. */
export interface SshTarget {
  readonly host: string;
  readonly user: string | null;
  readonly port: number | null;
  readonly keyFile: string | null;
  /** The operator gave `no_verify=1`. */
  readonly skipsHostKey: boolean;
}

export interface LibvirtPlace {
  readonly uri: string;
  /** Null: this very machine. */
  readonly ssh: SshTarget | null;
}

/** What may stand behind the `?`. Others, such as `command`, name programs to be run. */
const ALLOWED = new Set(['socket', 'mode', 'keyfile', 'no_verify', 'no_tty', 'proxy']);
const refuse = (uri: string, detail: string) => new SendenseError('LIBVIRT_URI_INVALID', { uri, detail });

/**
 * `qemu:///system`, `qemu:///session`, `qemu+unix://…`, `qemu+ssh://[user@]host[:port]/system`.
 * @throws LIBVIRT_URI_INVALID
 */
export function parseLibvirtUri(uri: string): LibvirtPlace {
  let parsed: URL;
  try {
    parsed = new URL(uri);
  } catch {
    throw refuse(uri, 'it is no URI');
  }
  const isSsh = parsed.protocol === 'qemu+ssh:';
  if (!isSsh && parsed.protocol !== 'qemu:' && parsed.protocol !== 'qemu+unix:')
    throw refuse(uri, 'only qemu:, qemu+unix: and qemu+ssh: are known');
  if (parsed.password !== '') throw refuse(uri, 'a password does not belong into a URI');
  if (parsed.hash !== '') throw refuse(uri, 'it has a fragment');
  if (parsed.pathname !== '/system' && parsed.pathname !== '/session')
    throw refuse(uri, 'its path must be /system or /session');
  for (const name of parsed.searchParams.keys())
    if (!ALLOWED.has(name)) throw refuse(uri, `the parameter ${name} is not allowed`);
  if (!isSsh) {
    if (parsed.hostname !== '') throw refuse(uri, 'a machine elsewhere is reached with qemu+ssh:');
    return { uri, ssh: null };
  }
  // ssh would take a name with a dash in front for an option
  if (!/^\[?[A-Za-z0-9_][A-Za-z0-9._:-]*\]?$/.test(parsed.hostname)) throw refuse(uri, 'it has no host');
  const user = decodeURIComponent(parsed.username);
  if (user !== '' && !/^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(user)) throw refuse(uri, 'the user name is odd');
  return {
    uri,
    ssh: {
      host: parsed.hostname.replace(/^\[|\]$/g, ''),
      user: user === '' ? null : user,
      port: parsed.port === '' ? null : Number(parsed.port),
      keyFile: parsed.searchParams.get('keyfile'),
      skipsHostKey: parsed.searchParams.get('no_verify') === '1',
    },
  };
}
