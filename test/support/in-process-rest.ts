import { request } from 'node:http';

/** One request over a unix socket, from this very process. @throws with the answer when it is an error */
export function ask<T = unknown>(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' };
    const options = { agent: false, socketPath, method, path: `/api/v1${path}`, headers };
    const sent = request(options, (answer) => {
      let text = '';
      answer.on('data', (chunk) => {
        text += chunk;
      });
      answer.on('end', () => {
        if ((answer.statusCode ?? 500) < 400) resolve((text === '' ? null : JSON.parse(text)) as T);
        else reject(new Error(`${method} ${path}: ${text}`));
      });
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
