import { sleep } from '#core/abort.ts';
import { isGearError, messageOf } from '#core/errors.ts';
import { connect } from '#core/grpc/client.ts';
import type { Logger } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
import { type HeartbeatRequest, MonitorService } from '#proto/gen/gear/v1/monitor.ts';

const FIRST_INTERVAL = 10_000;
const CALL_TIMEOUT = 5_000;

/**
 * Tells the monitor every few seconds how this node is doing, until `signal` aborts. A monitor that is away is no trouble: nothing waits
 * for it, and only the change is logged.
 */
export async function sendHeartbeats(options: {
  readonly monitor: string;
  readonly access?: Access;
  readonly report: () => Promise<HeartbeatRequest>;
  readonly log: Logger;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { monitor, access, report, log, signal } = options;
  using connection = connect(monitor, 'monitor address', access);
  let reached: boolean | undefined;
  let interval = FIRST_INTERVAL;
  while (!signal.aborted) {
    try {
      const answer = await connection.unary(MonitorService.heartbeat, await report(), {
        timeout: CALL_TIMEOUT,
        signal,
      });
      if (answer.intervalSeconds > 0) interval = answer.intervalSeconds * 1000;
      if (reached !== true) log.info({ monitor }, 'monitor reached');
      reached = true;
    } catch (error) {
      if (signal.aborted) return;
      const level = isGearError(error, 'unavailable', 'deadline-exceeded') ? 'info' : 'warn';
      if (reached !== false) log[level]({ monitor, reason: messageOf(error) }, 'monitor not reached');
      reached = false;
    }
    await sleep(interval, { signal }).catch(() => {});
  }
}
