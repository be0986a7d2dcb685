import type { Command } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { print } from '../output.ts';

interface FoundMachine {
  readonly name: string;
  readonly registered_as: string | null;
  readonly is_running: boolean;
  readonly source: { readonly domain: string };
  readonly disks: readonly { key: string; format: string; size_bytes: number }[];
  readonly left_out: readonly { key: string; reason: string }[];
}

const collect = (value: string, all: string[] | undefined) => [...(all ?? []), value];

export interface LibvirtOptions {
  readonly libvirt?: string;
  readonly uri?: string;
  readonly includeDisk?: string[];
  readonly excludeDisk?: string[];
  readonly freeze?: boolean;
}

/** Adds what `vm add` and `vm set` know of a machine of a libvirt. */
export const withLibvirtOptions = (command: Command): Command =>
  command
    .option('--uri <uri>', 'of the libvirt, as in qemu:///system or qemu+ssh://root@host/system')
    .option('--include-disk <target>', 'back up only such disks, as in vda; repeatable', collect)
    .option('--exclude-disk <target>', 'leave such a disk out; repeatable', collect)
    .option('--freeze', "freeze the guest's file systems through its agent")
    .option('--no-freeze', 'do not; the backup is then as after a power cut');

/** The part of a request that says where the machine is; undefined when nothing of it was said. */
export function libvirtPart(options: LibvirtOptions): Record<string, unknown> | undefined {
  const part = {
    uri: options.uri,
    domain: options.libvirt,
    include_disks: options.includeDisk,
    exclude_disks: options.excludeDisk,
    freeze: options.freeze,
  };
  return Object.values(part).some((value) => value !== undefined) ? part : undefined;
}

export function discoverCommand(vm: Command): void {
  vm.command('discover')
    .description('the machines of a libvirt, and which of them are registered')
    .option('--libvirt [uri]', 'its URI', 'qemu:///system')
    .action(async (options: { libvirt: string | true }, command: Command) => {
      const { client, format } = contextOf(command);
      const uri = options.libvirt === true ? undefined : options.libvirt;
      const answer = await client.call<{ machines: FoundMachine[] }>(
        'GET',
        `/libvirt/domains${query({ uri })}`,
      );
      print(
        format,
        answer,
        answer.machines,
        [
          { title: 'NAME', value: (machine) => machine.name },
          { title: 'STATE', value: (machine) => (machine.is_running ? 'running' : 'off') },
          { title: 'REGISTERED AS', value: (machine) => machine.registered_as ?? '-' },
          {
            title: 'DISKS',
            value: (machine) =>
              machine.disks
                .map(({ key, format: kind, size_bytes }) => `${key} (${kind}, ${formatBytes(size_bytes)})`)
                .join(' '),
          },
          {
            title: 'LEFT OUT',
            value: (machine) => machine.left_out.map(({ key, reason }) => `${key}: ${reason}`).join('; '),
          },
        ],
        (machine) => machine.source.domain,
      );
    });
}
