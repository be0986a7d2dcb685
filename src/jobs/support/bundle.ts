import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { release, version } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Catalog } from '../../catalog/catalog.ts';
import { tarStream } from '../../restore/browse/archive/tar-stream.ts';
import type { Finding } from '../doctor/finding.ts';
import { logTail } from './log-tail.ts';
import { redact } from './redact.ts';

const EVENTS = 2_000;
const JOBS = 500;

export interface BundleDeps {
  readonly catalog: Catalog;
  readonly runFolder: string;
  readonly health: () => object;
  readonly settings: () => object;
  readonly examine: () => Promise<Finding[]>;
}

/** What the appliance knows that must not leave it: contents of the files that its settings name. */
async function knownSecrets({ mirrors, notifications }: Catalog): Promise<string[]> {
  const files = [
    ...mirrors.all().map(({ secretKeyFile }) => secretKeyFile),
    ...notifications
      .all()
      .flatMap(({ place }) =>
        place.kind === 'webhook' ? [place.secretFile, place.urlFile] : [place.passwordFile],
      ),
  ];
  const contents = await Promise.all(
    files.map((file) => (file === null ? '' : readFile(file, 'utf8').catch(() => ''))),
  );
  const urls = notifications.all().map(({ place }) => (place.kind === 'webhook' ? (place.url ?? '') : ''));
  // for those the rest of the URL is the password
  const paths = urls.flatMap((url) => (url === '' ? [] : [new URL(url).pathname + new URL(url).search]));
  return [...contents.map((text) => text.trim()), ...paths].filter((text) => text.length > 1);
}

/**
 * What somebody needs who is to find out what is wrong: no secrets, no content of backups. Names of machines, files and
 * addresses are in it.
 * @returns a tar.zst; its folder is removed when the stream is closed
 */
export async function supportBundle(deps: BundleDeps, signal: AbortSignal): Promise<Readable> {
  const { catalog } = deps;
  const secrets = await knownSecrets(catalog);
  const parts: Record<string, unknown> = {
    'versions.json': { ...deps.health(), kernel: release(), kernelVersion: version() },
    'os-release.txt': await readFile('/etc/os-release', 'utf8').catch(() => ''),
    'settings.json': deps.settings(),
    'doctor.json': await deps.examine(),
    'events.json': catalog.events.list(EVENTS, null, true),
    'jobs.json': catalog.jobs.list({ limit: JOBS }).map(({ request: _request, ...job }) => job),
    'catalogue.json': catalog.measures.statistics(),
    'log.txt': await logTail(),
  };
  await mkdir(deps.runFolder, { recursive: true, mode: 0o750 });
  const folder = await mkdtemp(join(deps.runFolder, 'support-'));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    for (const [name, content] of Object.entries(parts)) {
      const text = typeof content === 'string' ? content : `${JSON.stringify(content, null, 2)}\n`;
      await writeFile(join(folder, name), redact(text, secrets), { mode: 0o600 });
    }
    const packed = ['--owner=0', '--group=0', '--transform=s,^\\.,sendense-support,', '-C', folder, '.'];
    return tarStream(packed, 'tar.zst', signal, remove);
  } catch (error) {
    await remove();
    throw error;
  }
}
