import { type Logger, pino, stdSerializers } from 'pino';

export type { Logger } from 'pino';

/** Levels that `--log-level` takes. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

// pino's own serializer prints only the outer error of a SuppressedError.
function serializeError(error: unknown): unknown {
  if (error instanceof SuppressedError) {
    return {
      type: 'SuppressedError',
      error: serializeError(error.error),
      suppressed: serializeError(error.suppressed),
    };
  }
  return error instanceof Error ? stdSerializers.err(error) : error;
}

/**
 * The root logger of a process: one JSON line an event, on standard error. Pass children down (`log.child({ component })`); nothing
 * logs through a global.
 */
export function createLogger(component: string, level: LogLevel = 'info'): Logger {
  return pino(
    {
      level,
      base: { component, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: serializeError },
    },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A logger that says nothing; for tests and for library use without one. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
