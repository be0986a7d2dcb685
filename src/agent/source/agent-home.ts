import { mkdir, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { run } from '../../base/process/run.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { newPrivateKey } from '../identity/certificates.ts';
import { readIfThere, writeSecretFile } from '../identity/secret-file.ts';

const folder = z.string().min(1).max(4096).startsWith('/');

/** What an agent knows of itself and its appliance. */
const settings = z.strictObject({
  format: z.literal(1),
  /** `host:port` */
  appliance: z.string(),
  agentName: z.string(),
  /** Folders whose images it gives; a broken-in appliance must not read the whole host. */
  allow: z.array(folder),
  /** Of an enrolment that waits for an operator. */
  waiting: z.strictObject({ enrolmentId: z.string(), resultToken: z.string() }).nullable(),
});
export type AgentSettings = z.infer<typeof settings>;

export interface AgentHome {
  readonly folder: string;
  readonly runFolder: string;
  readonly lockFile: string;
  readonly settingsFile: string;
  readonly keyFile: string;
  readonly certificateFile: string;
  readonly authorityFile: string;
  readonly sshKeyFile: string;
}

/** @param given null: the place of an installed system */
export function agentHome(given: string | null): AgentHome {
  const home = given === null ? '/var/lib/sendense-agent' : resolve(given);
  return {
    folder: home,
    runFolder: join(home, 'run'),
    lockFile: join(home, 'lock.db'),
    settingsFile: join(home, 'agent.json'),
    keyFile: join(home, 'agent.key'),
    certificateFile: join(home, 'agent.crt'),
    authorityFile: join(home, 'authority.crt'),
    sshKeyFile: join(home, 'ssh.key'),
  };
}

/** @returns null when nobody enrolled here. @throws FORMAT_INVALID */
export async function readSettings(home: AgentHome): Promise<AgentSettings | null> {
  const text = await readIfThere(home.settingsFile);
  if (text === null) return null;
  try {
    return settings.parse(JSON.parse(text));
  } catch (error) {
    const detail = 'it is no settings file of an agent';
    throw new SendenseError('FORMAT_INVALID', { path: home.settingsFile, detail }, error);
  }
}

export const writeSettings = (home: AgentHome, value: AgentSettings): Promise<void> =>
  writeSecretFile(home.settingsFile, `${JSON.stringify(value, null, 2)}\n`);

/** The agent's keys for TLS and for ssh, made at the first use; they never leave this folder. */
export async function ensureKeys(home: AgentHome): Promise<{ key: string; sshPublicKey: string }> {
  await mkdir(home.folder, { recursive: true, mode: 0o700 });
  let key = await readIfThere(home.keyFile);
  if (key === null) {
    key = await newPrivateKey();
    await writeSecretFile(home.keyFile, key);
  }
  const names = await readdir(home.folder);
  if (!names.includes('ssh.key.pub'))
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', home.sshKeyFile]);
  const publicKey = (await readIfThere(`${home.sshKeyFile}.pub`)) ?? '';
  return { key, sshPublicKey: publicKey.trim().split(' ').slice(0, 2).join(' ') };
}

/** What is shown to the appliance, and what it is judged by. */
export interface AgentCredentials {
  readonly key: string;
  readonly certificate: string;
  readonly authority: string;
}

/** @throws AGENT_NOT_ENROLLED */
export async function readCredentials(home: AgentHome): Promise<AgentCredentials> {
  const [key, certificate, authority] = await Promise.all(
    [home.keyFile, home.certificateFile, home.authorityFile].map(readIfThere),
  );
  if (!key || !certificate || !authority)
    throw new SendenseError('AGENT_NOT_ENROLLED', { path: home.folder });
  return { key, certificate, authority };
}
