import { type MonitorServer, MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import type { Nodes } from '../monitor/nodes.ts';
import type { Handlers } from './handlers.ts';

/** How often nodes are to report. */
export const HEARTBEAT_SECONDS = 10;

/** The monitor service of monitor.proto. */
export function monitorService(nodes: Nodes, handlers: Handlers): MonitorServer {
  return {
    heartbeat: handlers.unary(MonitorService.heartbeat, async (heartbeat) => {
      nodes.report(heartbeat);
      return { intervalSeconds: HEARTBEAT_SECONDS };
    }),
    listNodes: handlers.unary(MonitorService.listNodes, async () => ({ nodes: nodes.list() })),
  };
}
