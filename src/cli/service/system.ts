import type { Command } from 'commander';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { print } from '../output.ts';
import { eventsVerifyCommand } from './events-verify.ts';

export function systemCommands(program: Command): void {
  const events = program
    .command('events')
    .description('what happened, newest first')
    .option('--limit <n>', 'how many', '50')
    .option('--requests', 'also the requests that changed something')
    .action(async (options: { limit: string; requests?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      interface EventView {
        readonly id: number;
        readonly at: string;
        readonly severity: string;
        readonly kind: string;
        readonly message: string;
        readonly actor: string | null;
        readonly origin: string | null;
      }
      const answer = await client.call<{ events: EventView[] }>(
        'GET',
        `/events${query({ limit: options.limit, requests: options.requests })}`,
      );
      print(
        format,
        answer,
        answer.events,
        [
          { title: 'TIME', value: (row) => row.at.slice(0, 19).replace('T', ' ') },
          { title: 'SEVERITY', value: (row) => row.severity },
          { title: 'KIND', value: (row) => row.kind },
          {
            title: 'WHO',
            value: ({ actor, origin }) =>
              actor === null ? '' : origin === 'socket' ? actor : `${actor} (${origin})`,
          },
          { title: 'MESSAGE', value: (row) => row.message },
        ],
        (row) => String(row.id),
      );
    });

  eventsVerifyCommand(events);

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
}
