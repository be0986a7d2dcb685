import type { Command } from 'commander';
import { wholeNumber } from '../backup/pin.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type Column, print, say } from '../output.ts';
import { type AbsentView, sayAbsent } from './say-absent.ts';

interface NextRunView {
  readonly policy: string;
  readonly kind: string;
  readonly schedule: string;
  readonly runner: string;
  readonly due_at: string;
  readonly starts_at: string;
  readonly local: string;
}

export const nextRunColumns: readonly Column<NextRunView>[] = [
  { title: 'POLICY', value: (row) => row.policy },
  { title: 'KIND', value: (row) => row.kind },
  { title: 'SCHEDULE', value: (row) => row.schedule },
  { title: 'STARTS', value: (row) => row.local },
  { title: 'UTC', value: (row) => row.starts_at.slice(0, 19).replace('T', ' ') },
  { title: 'RUNNER', value: (row) => row.runner },
];

interface MirrorView {
  readonly mirror: string;
  readonly rules: string;
  readonly upkeep: boolean;
  readonly schedule: string | null;
  readonly points: readonly { vm_name: string; backup_id: string; action: string; reason: string }[];
  readonly other_points: number;
  readonly last_of: readonly string[];
  readonly renewed: number;
}

interface PreviewView {
  readonly absent: readonly AbsentView[];
  readonly rules: string;
  readonly machines: readonly string[];
  readonly next: readonly NextRunView[];
  readonly retention: readonly {
    readonly vm_name: string;
    readonly deletes_last_good: boolean;
    readonly points: readonly { backup_id: string; completed_at: string; action: string; reason: string }[];
  }[];
  readonly mirrors: readonly MirrorView[];
  readonly not_shown: number;
}

export function previewCommand(policy: Command): void {
  policy
    .command('preview <name>')
    .description('next runs, chosen machines, and what retention would keep today and why; changes nothing')
    .option('--count <n>', 'runs of each kind', wholeNumber)
    .action(async (name: string, options: { count?: number }, command: Command) => {
      const { client, format } = contextOf(command);
      const path = `/policies/${encodeURIComponent(name)}/preview${query({ count: options.count })}`;
      const preview = await client.call<PreviewView>('GET', path);
      sayAbsent(name, preview.absent);
      if (format !== 'table') {
        print(format, preview, preview.machines, [], (machine) => machine);
        return;
      }
      say(`${preview.machines.length} machines: ${preview.machines.join(' ') || '(none)'}`);
      say('\nNext runs:');
      print(format, preview, preview.next, nextRunColumns, (row) => row.due_at);
      say(`\nRetention ${preview.rules}.`);
      const rows = preview.retention.flatMap(({ vm_name, points }) =>
        points.map((point) => ({ vm_name, ...point })),
      );
      showDecisions(rows);
      for (const { vm_name, deletes_last_good } of preview.retention)
        if (deletes_last_good)
          say(`warning: "${vm_name}" would lose its last good restore point, so it will not be pruned.`);
      for (const mirror of preview.mirrors) showMirror(name, mirror);
      if (preview.not_shown > 0) say(`${preview.not_shown} more machines are not shown here.`);
    });
}

interface Decision {
  readonly vm_name: string;
  readonly backup_id: string;
  readonly action: string;
  readonly reason: string;
}

function showDecisions(rows: readonly Decision[]): void {
  print(
    'table',
    null,
    rows,
    [
      { title: 'MACHINE', value: (row) => row.vm_name },
      { title: 'BACKUP', value: (row) => row.backup_id },
      { title: 'ACTION', value: (row) => (row.action === 'delete' ? 'DELETE' : 'keep') },
      { title: 'WHY', value: (row) => row.reason },
    ],
    (row) => row.backup_id,
  );
}

function showMirror(policy: string, mirror: MirrorView): void {
  say(`\nThe mirror ${mirror.mirror} ${mirror.rules}.`);
  if (!mirror.upkeep)
    say('It is looked after by hand: locks, retention and garbage are not for this policy.');
  else if (mirror.schedule === null)
    say(
      `Nobody does that by itself: sendense-ctl policy set ${policy} --mirror-schedule "daily at 04:00", or run it with: sendense-ctl policy run ${policy} --kind mirror`,
    );
  showDecisions(mirror.points);
  for (const vm of mirror.last_of)
    say(`warning: "${vm}" would lose its last good restore point there, so none of it is deleted.`);
  if (mirror.renewed > 0) say(`The locks of ${mirror.renewed} restore points would be renewed.`);
  if (mirror.other_points > 0) say(`${mirror.other_points} restore points of other machines are in it, too.`);
}
