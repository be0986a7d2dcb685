import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** JSON lines on stderr: stdout of a tool belongs to its answer. */
export function createLogger(level: string): Logger {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  );
}
