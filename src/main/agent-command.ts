import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { type AgentHome, agentHome, readSettings, writeSettings } from '../agent/source/agent-home.ts';
import { awaitApproval, enroll } from '../agent/source/enroll.ts';
import { packageFile } from '../base/own-files.ts';
import { SendenseError } from '../base/sendense-error.ts';
import { runAgent } from './run-agent.ts';

const say = (text: string) => process.stderr.write(`${text}\n`);
const collect = (value: string, all: string[]) => [...all, value];

/** The code stands in the arguments of this process only when somebody puts it there. */
async function codeFrom(option: string): Promise<string> {
  if (option !== '-') return option;
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8').trim();
}

const settingsOf = async (home: AgentHome) => {
  const settings = await readSettings(home);
  if (settings === null) throw new SendenseError('AGENT_NOT_ENROLLED', { path: home.folder });
  return settings;
};

/** All commands of the agent; its man page is made of them. */
export function agentCommand(version: string): Command {
  const all = new Command('sendense-agent')
    .description('Gives the disks of this host to a Sendense appliance.')
    .version(version)
    .option('--home <dir>', 'keys and settings (or SENDENSE_AGENT_HOME; default: /var/lib/sendense-agent)')
    .exitOverride();
  const homeOf = (command: Command) =>
    agentHome(
      command.optsWithGlobals<{ home?: string }>().home ?? process.env['SENDENSE_AGENT_HOME'] ?? null,
    );
  const stopped = new AbortController();
  all.hook('preAction', () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stopped.abort());
  });

  all
    .command('enroll')
    .description('introduce this host to an appliance and wait until an operator approves it')
    .option('--appliance <host[:port]>', 'where the appliance listens for agents')
    .option('--code <code>', 'from `sendense-ctl agent invite`; - reads it from stdin', '-')
    .option('--name <name>', 'how the appliance calls this agent; default: the name of this host')
    .option('--allow <dir>', 'a folder whose images may be read; repeatable', collect, [])
    .action(
      async (
        options: { appliance?: string; code: string; name?: string; allow: string[] },
        command: Command,
      ) => {
        const home = homeOf(command);
        const known = await readSettings(home);
        if (known?.waiting === undefined || known.waiting === null) {
          if (options.appliance === undefined)
            command.error('error: where is the appliance? Give --appliance HOST:PORT');
          const fingerprint = await enroll({
            ...{ home, appliance: options.appliance ?? '', code: await codeFrom(options.code) },
            ...{ name: options.name ?? null, allow: options.allow.map((folder) => resolve(folder)), version },
          });
          say(`The key of this agent is ${fingerprint.slice(0, 16).replace(/.{4}(?=.)/g, '$&-')}.`);
        }
        const { agentName, waiting } = await settingsOf(home);
        if (waiting !== null)
          say(
            `Waiting for approval: sendense-ctl agent approve ${agentName}. Ctrl-C is harmless; call enroll again.`,
          );
        await awaitApproval(home, stopped.signal);
        say(`Enrolled as "${agentName}". Start it with: sendense-agent run`);
      },
    );
  all
    .command('allow <dir>')
    .description('let the appliance read the images in one more folder')
    .action(async (folder: string, _options, command: Command) => {
      const home = homeOf(command);
      const settings = await settingsOf(home);
      await writeSettings(home, { ...settings, allow: [...new Set([...settings.allow, resolve(folder)])] });
      say(`The appliance may read the images in ${resolve(folder)}.`);
    });
  all
    .command('status')
    .description('what this agent knows of itself')
    .action(async (_options, command: Command) => {
      const { agentName, appliance, allow, waiting } = await settingsOf(homeOf(command));
      const shown = { agent_name: agentName, appliance, allow, waiting: waiting !== null, version };
      process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
    });
  all
    .command('run')
    .description('stay connected and do what the appliance asks')
    .option('--log-level <level>', 'trace, debug, info, warn or error', 'info')
    .action(async (options: { logLevel: string }, command: Command) => {
      const home = homeOf(command);
      await settingsOf(home);
      await runAgent({
        ...{ home, version, logLevel: options.logLevel, signal: stopped.signal },
        moverFile: fileURLToPath(packageFile('dist/main/sendense-mover.js')),
      });
    });
  return all;
}
