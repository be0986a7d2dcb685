import { resolve } from 'node:path';
import type { Command } from 'commander';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type Format, print, printable, printDone, say } from '../output.ts';
import { collectLabels } from '../policy/policy-options.ts';
import { discoverCommand, type LibvirtOptions, libvirtPart, withLibvirtOptions } from './vm-libvirt.ts';

interface VmView {
  readonly name: string;
  readonly registered: boolean;
  readonly source: { readonly kind: string; readonly uri?: string; readonly domain?: string };
  readonly agent: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly unprotected: string | null;
  readonly disks: readonly { disk_id: number; path: string; format: string; active: boolean }[];
}

const collect = (value: string, all: string[]) => [...all, value];

/** `PATH` or `PATH,format=raw|qcow2`; relative to where the operator stands. */
export function parseDisk(text: string): { path: string; format?: string } {
  const match = /^(.*),format=(\w+)$/.exec(text);
  return match ? { path: resolve(match[1] ?? ''), format: match[2] ?? '' } : { path: resolve(text) };
}

/** `tier=gold`, and why it is left out when it is. */
const labelsOf = ({ labels, unprotected }: VmView): string =>
  [
    ...Object.entries(labels).map(([key, value]) => `${key}=${value}`),
    ...(unprotected === null ? [] : [`(unprotected: ${unprotected})`]),
  ].join(' ');

const show = (format: Format, document: unknown, vms: readonly VmView[]) =>
  print(
    format,
    document,
    vms,
    [
      { title: 'NAME', value: (vm) => vm.name },
      { title: 'STATE', value: (vm) => (vm.registered ? 'registered' : 'backups only') },
      { title: 'AGENT', value: (vm) => vm.agent ?? '' },
      { title: 'LABELS', value: labelsOf },
      {
        title: 'SOURCE',
        value: ({ source }) => (source.kind === 'image' ? 'image' : `${source.uri} ${source.domain}`),
      },
      {
        title: 'DISKS',
        value: (vm) =>
          vm.disks
            .filter((disk) => disk.active)
            .map((disk) => `${disk.disk_id}:${disk.path} (${disk.format})`)
            .join(' '),
      },
    ],
    (vm) => vm.name,
  );

interface ChangeOptions extends LibvirtOptions {
  disk?: string[];
  addDisk?: string[];
  removeDisk?: string[];
  before?: string;
  after?: string;
  allowBacking?: string[];
  agent?: string;
  label?: Record<string, string>;
  removeLabel?: string[];
  unprotected?: string;
  protected?: boolean;
}

function labelChange({ label, removeLabel = [] }: ChangeOptions): Record<string, string | null> | undefined {
  if (label === undefined && removeLabel.length === 0) return undefined;
  return { ...Object.fromEntries(removeLabel.map((key) => [key, null])), ...label };
}

export function vmCommands(program: Command): void {
  const vm = program.command('vm').description('machines and their disks');
  discoverCommand(vm);
  withLibvirtOptions(vm.command('add <name>'))
    .description('register a machine from local images or block devices, or of a libvirt')
    .option('--libvirt <domain>', 'name or UUID of a domain; its disks are found by themselves')
    .option('--disk <path[,format=raw|qcow2]>', 'a disk; repeat it for more', collect, [])
    .option('--agent <name>', 'the disks are at this agent; paths are those of its host')
    .option('--before <command>', 'run before the disks are read, as to freeze an application')
    .option('--after <command>', 'run afterwards, whatever happened')
    .option(
      '--allow-backing <dir>',
      'folder in which backing files of a qcow2 may lie; repeatable',
      collect,
      [],
    )
    .option('--label <key=value>', 'what policies choose it by; repeatable', collectLabels)
    .option('--unprotected <reason>', 'it needs no backups, and why')
    .action(async (name: string, options: ChangeOptions, command: Command) => {
      if ((options.disk ?? []).length === 0 && options.libvirt === undefined)
        command.error(
          `error: a machine needs at least one disk, as in: sendense-ctl vm add ${name} --disk /srv/${name}.img, or --libvirt ${name}`,
        );
      const { client, format } = contextOf(command);
      const added = await client.call<VmView>('POST', '/vms', {
        name,
        agent: options.agent,
        disks: (options.disk ?? []).map(parseDisk),
        libvirt: options.libvirt === undefined ? undefined : libvirtPart(options),
        before: options.before,
        after: options.after,
        allow_backing: (options.allowBacking ?? []).map((folder) => resolve(folder)),
        labels: options.label,
        unprotected: options.unprotected,
      });
      show(format, added, [added]);
      const kept = labelsOf({
        ...added,
        labels: Object.fromEntries(
          Object.entries(added.labels).filter(([key]) => !Object.hasOwn(options.label ?? {}, key)),
        ),
        unprotected: options.unprotected === undefined ? added.unprotected : null,
      });
      if (kept !== '')
        say(
          `Known from its backups: ${printable(kept)}. Change it with: sendense-ctl vm set ${name} --remove-label …, --label … or --protected`,
        );
    });
  vm.command('list')
    .description('all machines')
    .action(async (_options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ vms: VmView[] }>('GET', '/vms');
      show(format, answer, answer.vms);
    });
  vm.command('show <name>')
    .description('one machine')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<VmView>('GET', `/vms/${encodeURIComponent(name)}`);
      show(format, answer, [answer]);
    });
  withLibvirtOptions(vm.command('set <name>'))
    .description('change disks and commands of a machine')
    .option('--libvirt <domain>', 'it is this domain now; name or UUID')
    .option('--add-disk <path[,format=…]>', 'add a disk', collect, [])
    .option('--remove-disk <path|number>', 'remove a disk; its backups stay', collect, [])
    .option('--before <command>', 'command before the backup; "" removes it')
    .option('--after <command>', 'command after the backup; "" removes it')
    .option('--allow-backing <dir>', 'folders for backing files, replacing the earlier ones', collect)
    .option('--label <key=value>', 'set a label; repeatable', collectLabels)
    .option('--remove-label <key>', 'take a label away; repeatable', collect, [])
    .option('--unprotected <reason>', 'it needs no backups, and why; `status` then does not complain')
    .option('--protected', 'it is to be backed up again')
    .action(async (name: string, options: ChangeOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const orNull = (text: string | undefined) => (text === '' ? null : text);
      const changed = await client.call<VmView>('PATCH', `/vms/${encodeURIComponent(name)}`, {
        add_disks: (options.addDisk ?? []).map(parseDisk),
        remove_disks: options.removeDisk,
        before: orNull(options.before),
        after: orNull(options.after),
        allow_backing: options.allowBacking,
        labels: labelChange(options),
        unprotected: options.protected ? null : options.unprotected,
        libvirt: libvirtPart(options),
      });
      show(format, changed, [changed]);
    });
  vm.command('remove <name>')
    .description('end the registration of a machine')
    .option('--keep-backups', 'even if it has backups; they stay readable')
    .action(async (name: string, options: { keepBackups?: boolean }, command: Command) => {
      const { client, format } = contextOf(command);
      await client.call(
        'DELETE',
        `/vms/${encodeURIComponent(name)}${query({ keep_backups: options.keepBackups })}`,
      );
      const sentence = `The machine "${name}" is not registered any more.`;
      printDone(format, { name, removed: true }, name, sentence);
    });
}
