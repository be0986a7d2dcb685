import { type ChildProcess, spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** aiosmtpd of Debian: keeps each message in a maildir. With a certificate it wants TLS, and a login. */
const program = `
import sys, time, ssl
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult
port, folder, cert, key, user, password = sys.argv[1:7]
def check(server, session, envelope, mechanism, data):
    ok = data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=ok, handled=True)
more = {}
if cert:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    more = dict(tls_context=context, require_starttls=True, authenticator=check, auth_required=True)
Controller(Mailbox(folder), hostname='127.0.0.1', port=int(port), **more).start()
while True: time.sleep(60)
`;

export interface SmtpWishes {
  readonly folder: string;
  readonly certificate?: { readonly cert: string; readonly key: string };
  readonly user?: string;
  readonly password?: string;
}

/** A port that nobody has at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

/** A mail server of another project. */
export class SmtpServer implements AsyncDisposable {
  readonly port: number;
  readonly #process: ChildProcess;

  private constructor(port: number, process: ChildProcess) {
    this.port = port;
    this.#process = process;
  }

  static async start({ folder, certificate, user, password }: SmtpWishes): Promise<SmtpServer> {
    const port = await freePort();
    const args = [
      String(port),
      folder,
      certificate?.cert ?? '',
      certificate?.key ?? '',
      user ?? '',
      password ?? '',
    ];
    // Debian's own Python has the module, whatever else is first in the path
    const started = spawn('/usr/bin/python3', ['-c', program, ...args], {
      stdio: 'ignore',
    });
    const server = new SmtpServer(port, started);
    for (let round = 0; round < 400; round += 1) {
      const isThere = await new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => {
          socket.destroy();
          resolve(true);
        }).once('error', () => resolve(false));
      });
      if (isThere) return server;
      if (started.exitCode !== null) break;
      await sleep(25);
    }
    await server[Symbol.asyncDispose]();
    throw new Error('aiosmtpd does not start');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    await gone;
  }
}
