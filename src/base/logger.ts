import { type Logger, pino } from 'pino';
import { currentJob } from './actor.ts';

export type { Logger } from 'pino';

/** JSON lines on stderr: stdout of a tool belongs to its answer. What is done in a job bears its `job_id`. */
export function createLogger(level: string): Logger {
  const destination = pino.destination({ fd: 2, sync: true });
  // a log on a full disk must not end the daemon
  destination.on('error', () => undefined);
  const mixin = () => {
    const job = currentJob();
    return job === null ? {} : { job_id: job };
  };
  return pino({ level, base: null, mixin, timestamp: pino.stdTimeFunctions.isoTime }, destination);
}
