import { SendenseError } from '../../base/sendense-error.ts';

/** Versions of the protocol in `proto/agent.proto` that this release speaks. */
export const OLDEST_PROTOCOL = 1;
export const NEWEST_PROTOCOL = 1;

export interface ProtocolRange {
  readonly oldest: number;
  readonly newest: number;
}

export const ourProtocols: ProtocolRange = { oldest: OLDEST_PROTOCOL, newest: NEWEST_PROTOCOL };

/**
 * The newest version that both sides speak. Pure.
 * @throws AGENT_VERSION, worded for the side that reads it: the agent is the one that is too old or too new
 */
export function agreeOn(ours: ProtocolRange, theirs: ProtocolRange): number {
  const agreed = Math.min(ours.newest, theirs.newest);
  if (agreed >= ours.oldest && agreed >= theirs.oldest) return agreed;
  const isOld = theirs.newest < ours.oldest;
  throw new SendenseError('AGENT_VERSION', {
    who: 'agent',
    theirs: isOld ? theirs.newest : theirs.oldest,
    ours: isOld ? ours.oldest : ours.newest,
    age: isOld ? 'old' : 'new',
  });
}
