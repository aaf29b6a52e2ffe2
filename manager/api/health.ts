import type { Server } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';

/** The standard health service (grpc.health.v1) of one server. */
export interface Health {
  addTo(server: Server): void;
  set(serving: boolean): void;
}

/** `services`: full names ("gear.v1.Images"). The empty name, for the server as a whole, is always there. */
export function createHealth(services: readonly string[]): Health {
  const health = new HealthImplementation();
  const set = (serving: boolean) => {
    for (const service of ['', ...services]) health.setStatus(service, serving ? 'SERVING' : 'NOT_SERVING');
  };
  set(true);
  return { addTo: (server) => health.addToServer(server), set };
}
