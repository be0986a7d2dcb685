import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { TestAppliance } from './appliance.ts';

export interface Answer {
  readonly status: number;
  readonly headers: string;
  readonly body: string;
}

/** A request as any client could send it, byte for byte. */
export function requestTo(appliance: TestAppliance) {
  return (method: string, path: string, body?: unknown, ...headers: string[]): Answer => {
    const target = ['--unix-socket', join(appliance.home, 'run', 'sendensed.sock'), `http://d/api/v1${path}`];
    // of two equal headers the first one counts
    const all = [...headers, ...(body === undefined ? [] : ['Content-Type: application/json']), 'Expect:'];
    const result = spawnSync(
      'curl',
      [
        ...['-s', '-g', '-i', '--path-as-is', '-X', method],
        ...all.flatMap((header) => ['-H', header]),
        ...(body === undefined ? [] : ['--data-binary', '@-']),
        ...target,
      ],
      {
        input: body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body),
        encoding: 'latin1',
        maxBuffer: 64 * 1024 * 1024,
      },
    );
    const cut = result.stdout.indexOf('\r\n\r\n');
    return {
      status: Number(/^HTTP\/1.1 (\d+)/.exec(result.stdout)?.[1]),
      headers: result.stdout.slice(0, cut),
      body: result.stdout.slice(cut + 4),
    };
  };
}

/** Everything a refused request must not change. */
export const stateOf = (appliance: TestAppliance): string[] =>
  ['/vms', '/backup/list', '/repositories', '/restore/mounts', '/jobs'].map((path) =>
    requestTo(appliance)('GET', path).body.replace(/"(available|used|total|free)_bytes":\d+/g, ''),
  );

export function expectProblem(answer: Answer, status: number, code: string): void {
  expect(answer.headers).toMatch(/content-type: application\/problem\+json/i);
  expect(JSON.parse(answer.body)).toMatchObject({ status, code, type: `urn:sendense:error:${code}` });
  expect(answer.status).toBe(status);
}
