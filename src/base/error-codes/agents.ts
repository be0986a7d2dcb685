import { busy, data, type ErrorCodeEntry, environment, user } from './entry.ts';

/** Capture agents: pairing, their connection and what they do at the source. */
export const agentCodes = {
  AGENTS_OFF: user(
    409,
    13,
    'This daemon does not listen for agents.',
    'Set `agents.listen = "0.0.0.0:7443"` in sendense.toml and restart the daemon.',
  ),
  AGENT_UNKNOWN: user(
    404,
    10,
    'No agent is called "{agent}".',
    'List the agents with `sendense-ctl agent list`.',
  ),
  AGENT_EXISTS: user(
    409,
    13,
    'An agent called "{agent}" exists already.',
    'Pick another name, or revoke the other one with `sendense-ctl agent revoke {agent}`.',
  ),
  AGENT_STATE: user(
    409,
    13,
    'The agent "{agent}" is {status}; this needs one that is {needed}.',
    'See `sendense-ctl agent show {agent}`.',
  ),
  AGENT_OFFLINE: environment(
    'The agent "{agent}" is not connected.',
    'Look at it on its host: does `sendense-agent run` run there, and what does it say? `sendense-ctl agent show {agent}` tells when it was here last.',
  ),
  AGENT_SILENT: environment(
    'The agent "{agent}" did not answer to "{method}" within {seconds} s.',
    'Look at it on its host; then start the job again.',
  ),
  AGENT_LOST: environment(
    'The agent "{agent}" was given up: {detail}',
    'Bring it back, then start the backup again; the earlier restore points are untouched.',
  ),
  AGENT_ANSWER_INVALID: data(
    'The agent "{agent}" sent what cannot be: {detail}',
    'Nothing of it was kept. Find out what runs there; `sendense-ctl agent revoke {agent}` shuts it out.',
  ),
  AGENT_VERSION: user(
    409,
    13,
    'This {who} speaks version {theirs} of the protocol, and {ours} is needed: it is too {age}.',
    'Install the same release of Sendense on both sides.',
  ),
  AGENT_REFUSED: user(
    403,
    12,
    'The appliance refuses this agent: {detail}',
    'On the appliance: `sendense-ctl agent list` and `sendense-ctl events` say why.',
  ),
  AGENT_NOT_ENROLLED: user(
    409,
    13,
    'No agent is enrolled in {path}.',
    'Get a code with `sendense-ctl agent invite` on the appliance, then run `sendense-agent enroll` here.',
  ),
  AGENT_ENROLLED: user(
    409,
    13,
    'The agent "{agent}" is enrolled in {path} already.',
    'Use another --home, or remove this folder to begin anew; then revoke the old one on the appliance.',
  ),
  AGENT_RUNNING: busy(
    'Another sendense-agent runs in {path}.',
    'There is one for each home: stop the other one first.',
  ),
  PAIRING_CODE_INVALID: user(
    400,
    2,
    'This is no pairing code: {detail}',
    'Copy it whole from what `sendense-ctl agent invite` printed.',
  ),
  PAIRING_REFUSED: user(
    403,
    12,
    'The pairing code is refused: {detail}',
    'Get a new one with `sendense-ctl agent invite`; each is good for one agent and for ten minutes.',
  ),
  PAIRING_LIMITED: {
    ...busy('Too many wrong pairing codes came in.', 'Wait a minute and try again.'),
    http: 429,
  },
  APPLIANCE_NOT_TRUSTED: user(
    403,
    12,
    'What answers at {address} is not the appliance that made this pairing code.',
    'Check the address. If it is right, somebody stands between: do not go on.',
  ),
  APPLIANCE_UNREACHABLE: environment(
    'The appliance at {address} cannot be reached: {detail}',
    'Check the address, the firewall and the clock of this machine, and `agents.listen` of the daemon.',
  ),
  PATH_NOT_GIVEN: user(
    403,
    12,
    'The agent does not give {path}: it lies outside the folders that it was allowed to give.',
    'Allow it on the host of the agent: `sendense-agent allow DIR`.',
  ),
  SNAPSHOT_LOST: environment(
    'The disk {path} is not any more as it was when the backup began: {detail}',
    'Start the backup again; nothing of this one was kept.',
  ),
  TUNNEL_FAILED: environment(
    'The ssh tunnel to {address} does not come up: {detail}',
    'Check `agents.ssh_listen` of the daemon and the firewall; `sendense-ctl agent set NAME --data-way tls` does without ssh.',
  ),
  DATA_WAY_OFF: user(
    409,
    13,
    'The data way {way} cannot be used: {detail}',
    'Set it in sendense.toml, or choose another with `sendense-ctl agent set NAME --data-way`.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
