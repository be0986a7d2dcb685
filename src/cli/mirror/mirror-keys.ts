import { resolve } from 'node:path';
import type { Command } from 'commander';
import { contextOf } from '../connection/context.ts';
import { print, printDone, say } from '../output.ts';

interface KeyView {
  readonly slot: number;
  readonly kind: string;
  readonly label: string;
  readonly created_at: string;
}

const path = (name: string) => `/mirrors/${encodeURIComponent(name)}`;

export function keyCommands(mirror: Command): void {
  const key = mirror.command('key').description('passphrases and recovery keys of an encrypted mirror');
  key
    .command('list <mirror>')
    .description('what opens it')
    .action(async (name: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ keys: KeyView[] }>('GET', `${path(name)}/keys`);
      print(
        format,
        answer,
        answer.keys,
        [
          { title: 'KEY', value: (row) => String(row.slot) },
          { title: 'KIND', value: (row) => row.kind },
          { title: 'LABEL', value: (row) => row.label },
          { title: 'SINCE', value: (row) => row.created_at },
        ],
        (row) => String(row.slot),
      );
    });
  key
    .command('add <mirror>')
    .description('one more passphrase; to change one, add the new and remove the old')
    .requiredOption('--passphrase-file <file>', 'holds it')
    .option('--label <text>', 'what it is for')
    .action(async (name: string, options: { passphraseFile: string; label?: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const body = { passphrase_file: resolve(options.passphraseFile), label: options.label };
      const added = await client.call<{ slot: number }>('POST', `${path(name)}/keys`, body);
      printDone(format, added, String(added.slot), `Key ${added.slot} opens "${name}" from now on.`);
    });
  key
    .command('export <mirror>')
    .description('make a recovery key and print it with all that is needed to restore from the bucket alone')
    .option('--label <text>', 'where it is kept')
    .action(async (name: string, options: { label?: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const place = await client.call<Record<string, unknown>>('GET', path(name));
      const body = { label: options.label };
      const made = await client.call<{ slot: number; recovery_key: string }>(
        'POST',
        `${path(name)}/keys`,
        body,
      );
      const { endpoint, region, bucket, prefix, path_style, mirror_id } = place;
      const kit = { ...made, mirror_id, endpoint, region, bucket, prefix, path_style };
      if (format !== 'table') {
        print(format, kit, [made.recovery_key], [], (row) => row);
        return;
      }
      process.stdout.write(
        `Recovery kit of the Sendense mirror ${String(mirror_id)}\n\n` +
          `Endpoint      ${String(endpoint)}\nRegion        ${String(region)}\n` +
          `Bucket        ${String(bucket)}\nPrefix        ${String(prefix)}\n` +
          `Recovery key  ${made.recovery_key}\n\n` +
          'On an empty appliance, with keys of the S3 server and the recovery key in a file:\n' +
          `  sendense-ctl mirror attach ${name} --endpoint ${String(endpoint)} --region ${String(region)} --bucket ${String(bucket)}` +
          `${prefix === '' ? '' : ` --prefix ${String(prefix)}`} --access-key KEY --secret-key-file FILE --passphrase-file FILE\n`,
      );
      say(`This is key ${made.slot}. It is shown only now; print it and keep it apart from this appliance.`);
    });
  key
    .command('remove <mirror> <key>')
    .description('take one away; the last one stays')
    .action(async (name: string, slot: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const removed = await client.call('DELETE', `${path(name)}/keys/${encodeURIComponent(slot)}`);
      printDone(format, removed, slot, `Key ${slot} does not open "${name}" any more.`);
    });
}
