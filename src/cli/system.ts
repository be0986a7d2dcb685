import type { Command } from 'commander';
import { query } from './client.ts';
import { contextOf } from './context.ts';
import { print, say } from './output.ts';

export function systemCommands(program: Command): void {
  program
    .command('events')
    .description('what happened, newest first')
    .option('--limit <n>', 'how many', '50')
    .action(async (options: { limit: string }, command: Command) => {
      const { client, format } = contextOf(command);
      interface EventView {
        readonly id: number;
        readonly at: string;
        readonly severity: string;
        readonly kind: string;
        readonly message: string;
      }
      const answer = await client.call<{ events: EventView[] }>(
        'GET',
        `/events${query({ limit: options.limit })}`,
      );
      print(
        format,
        answer,
        answer.events,
        [
          { title: 'TIME', value: (row) => row.at.slice(0, 19).replace('T', ' ') },
          { title: 'SEVERITY', value: (row) => row.severity },
          { title: 'KIND', value: (row) => row.kind },
          { title: 'MESSAGE', value: (row) => row.message },
        ],
        (row) => String(row.id),
      );
    });

  program
    .command('config')
    .description('settings')
    .command('show')
    .description('all settings')
    .option('--origin', 'also where each comes from')
    .action(async (options: { origin?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      interface Setting {
        readonly key: string;
        readonly value: unknown;
        readonly origin: string;
      }
      const answer = await client.call<{ settings: Setting[] }>('GET', '/config');
      const origin = options.origin ? [{ title: 'ORIGIN', value: (row: Setting) => row.origin }] : [];
      print(
        format,
        answer,
        answer.settings,
        [
          { title: 'SETTING', value: (row) => row.key },
          { title: 'VALUE', value: (row) => String(row.value) },
          ...origin,
        ],
        (row) => row.key,
      );
    });

  program
    .command('status')
    .description('is the daemon well?')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const health = await client.call<Record<string, unknown>>('GET', '/health');
      print(
        format,
        health,
        Object.entries(health),
        [
          { title: 'WHAT', value: ([key]) => key },
          {
            title: 'VALUE',
            value: ([, value]) => (typeof value === 'object' ? JSON.stringify(value) : String(value)),
          },
        ],
        ([key]) => key,
      );
    });

  program
    .command('doctor')
    .description('check what the daemon needs')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const health = await client.call<{
        status: string;
        tool_versions: Record<string, string>;
        nbd_server_pid: number | null;
        storage_daemon_pid: number | null;
        export_backend: string;
      }>('GET', '/health');
      const nbd = health.tool_versions['nbd-server'] ?? 'missing';
      const isOldNbd = /^3\.(1?\d|2[0-4])$/.test(nbd);
      const findings = [
        {
          check: 'qemu',
          ok: health.tool_versions['qemu'] !== 'missing',
          detail: health.tool_versions['qemu'] ?? '',
        },
        {
          check: 'nbd-server',
          ok: health.export_backend !== 'nbd-server' || nbd !== 'missing',
          detail: isOldNbd
            ? `${nbd}: its parent is replaced at every new export (a known fault before 3.25)`
            : nbd,
        },
        {
          check: 'storage daemon runs',
          ok: health.storage_daemon_pid !== null,
          detail: `pid ${health.storage_daemon_pid}`,
        },
        {
          check: 'nbd-server runs',
          ok: health.export_backend !== 'nbd-server' || health.nbd_server_pid !== null,
          detail: `pid ${health.nbd_server_pid}`,
        },
      ];
      print(
        format,
        { checks: findings },
        findings,
        [
          { title: 'CHECK', value: (row) => row.check },
          { title: 'RESULT', value: (row) => (row.ok ? 'ok' : 'FAILED') },
          { title: 'DETAIL', value: (row) => row.detail },
        ],
        (row) => row.check,
      );
      if (findings.some((finding) => !finding.ok)) process.exitCode = 21;
      else say('All is well.');
    });
}
