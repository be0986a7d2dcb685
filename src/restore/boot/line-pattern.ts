import { createContext, Script } from 'node:vm';
import { SendenseError } from '../../base/sendense-error.ts';

/** Far more than an honest pattern takes for a line of 4 KiB. */
const MATCH_TIMEOUT_MS = 200;

/**
 * A regular expression from a person that meets text from a guest. One that would search for ages is stopped: the
 * daemon has other work.
 * @throws REQUEST_INVALID for what is no regular expression
 */
export function linePattern(source: string): (line: string) => boolean {
  try {
    new RegExp(source, 'u');
  } catch {
    throw new SendenseError('REQUEST_INVALID', {
      detail: `expect_serial is "${source}"; it must be a regular expression`,
    });
  }
  const place = createContext({ source, line: '' });
  const script = new Script("new RegExp(source, 'u').test(line)");
  return (line) => {
    place['line'] = line;
    try {
      return script.runInContext(place, { timeout: MATCH_TIMEOUT_MS }) === true;
    } catch {
      return false;
    }
  };
}
