/** How a connection to an export is made secret and both ends are proven. */
export type NbdTls =
  /** A key that only this export and its one client have. */
  | { readonly kind: 'psk'; readonly identity: string; readonly keyHex: string }
  /** Certificates, all as PEM; `ca` signed the server's. */
  | { readonly kind: 'x509'; readonly ca: string; readonly certificate: string; readonly key: string };

export type NbdAddress =
  | { readonly socketPath: string; readonly host?: never; readonly port?: never }
  | { readonly host: string; readonly port: number; readonly socketPath?: never };

/** Where an export is. */
export type NbdEndpoint = NbdAddress & {
  readonly exportName: string;
  /** Absent: in the clear, for unix sockets of the same machine. */
  readonly tls?: NbdTls;
};
