import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import type { Fault, FaultRule } from './s3-proxy.ts';

const { port: target } = workerData as { port: number };
let rule: FaultRule | null = null;
let left = 0;

parentPort?.on('message', (message: { rule: FaultRule | null }) => {
  rule = message.rule;
  left = rule?.count ?? Number.POSITIVE_INFINITY;
  parentPort?.postMessage({ set: true });
});

function faultFor(line: string): Fault | null {
  if (rule === null || left === 0 || !new RegExp(rule.pattern).test(line)) return null;
  left -= 1;
  return rule.fault;
}

/** As the daemon marks its children. */
const ownerOf = (home: string) => createHash('sha256').update(home).digest('hex').slice(0, 32);

function killPrograms(word: string, home: string): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const isIt =
        readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(word) &&
        [home, ownerOf(home)].some((text) => readFileSync(`/proc/${pid}/environ`, 'utf8').includes(text));
      if (isIt) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // it has ended meanwhile
    }
  }
}

function handle(incoming: IncomingMessage, answer: ServerResponse): void {
  const { method = '', url = '' } = incoming;
  const line = `${method} ${url}`;
  parentPort?.postMessage({ seen: line });
  const fault = faultFor(line);
  if (fault?.kind === 'kill') killPrograms(fault.word, fault.home);
  if (fault?.kind === 'command') spawn('sh', ['-c', fault.command], { stdio: 'ignore' });
  if (fault?.kind === 'cut') {
    incoming.once('data', () => incoming.socket.destroy());
    if (method !== 'PUT') incoming.socket.destroy();
  } else if (fault?.kind === 'status') {
    incoming.resume();
    incoming.once('end', () => {
      answer.writeHead(fault.status, { 'Content-Type': 'application/xml' });
      const message = 'said by the proxy of the tests';
      answer.end(
        `<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>${message}</Message></Error>`,
      );
    });
  } else setTimeout(() => pass(incoming, answer, fault), fault?.kind === 'slow' ? fault.ms : 0);
}

function pass(incoming: IncomingMessage, answer: ServerResponse, fault: Fault | null): void {
  const { method, url, headers } = incoming;
  const onward = request({ host: '127.0.0.1', port: target, method, path: url, headers }, (reply) => {
    if (fault?.kind === 'lost-answer') {
      reply.resume();
      reply.once('end', () => incoming.socket.destroy());
      return;
    }
    answer.writeHead(reply.statusCode ?? 500, reply.headers);
    if (fault?.kind === 'cut-answer') {
      reply.once('data', (bytes: Buffer) => {
        answer.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => incoming.socket.destroy());
      });
      return;
    }
    reply.pipe(answer);
  });
  onward.on('error', () => incoming.socket.destroy());
  incoming.pipe(onward);
}

const server = createServer(handle);
server.listen(0, '127.0.0.1', () => {
  parentPort?.postMessage({ endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
});
