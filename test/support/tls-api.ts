import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CtlResult, TestAppliance } from './appliance.ts';

export interface ApiAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

interface Setting {
  readonly key: string;
  readonly value: unknown;
}

/** The API of an appliance over TCP, and tokens for it. */
export class TlsApi implements Disposable {
  readonly appliance: TestAppliance;
  readonly address: string;
  readonly fingerprint: string;
  readonly folder = mkdtempSync(join(tmpdir(), 'sd-tok-'));
  readonly #agent = new Agent({ rejectUnauthorized: false });

  constructor(appliance: TestAppliance) {
    this.appliance = appliance;
    const { settings } = appliance.json<{ settings: Setting[] }>('config', 'show');
    const value = (key: string) => String(settings.find((setting) => setting.key === key)?.value);
    this.address = value('api.address');
    this.fingerprint = value('api.fingerprint');
  }

  /** @returns the secret */
  token(name: string, role: string, ...more: string[]): string {
    return this.appliance.json<{ token: string }>('token', 'create', name, '--role', role, ...more).token;
  }

  ask(method: string, path: string, token: string | null, body?: unknown): Promise<ApiAnswer> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const headers = {
      ...(token === null ? {} : { Authorization: `Bearer ${token}` }),
      ...(payload === undefined
        ? {}
        : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) }),
    };
    return new Promise((resolve, reject) => {
      const url = `https://${this.address}/api/v1${path}`;
      const sent = request(url, { method, headers, agent: this.#agent }, (answer) => {
        let text = '';
        answer.on('data', (chunk) => {
          text += chunk;
        });
        answer.on('error', reject);
        answer.on('end', () =>
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: text }),
        );
      });
      sent.on('error', reject);
      sent.end(payload);
    });
  }

  /** sendense-ctl from elsewhere. */
  ctl(token: string, ...args: string[]): CtlResult {
    const file = join(this.folder, 'token');
    writeFileSync(file, `${token}\n`, { mode: 0o600 });
    const where = ['--url', `https://${this.address}`, '--token-file', file];
    return new TestAppliance('/nonexistent', '/dev/null').ctl(...where, ...args);
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
