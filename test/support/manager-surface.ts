import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Server } from '@grpc/grpc-js';
import type { FastifyInstance, RouteOptions } from 'fastify';
import { vi } from 'vitest';
import { startTestManager } from '../../manager/testing.ts';

/** All that can be asked of a manager, as its servers themselves have it. */
export interface ManagerSurface {
  /** Methods ("/gear.v1.Images/List") by the port that has them. */
  readonly grpc: readonly string[];
  readonly monitor: readonly string[];
  /** With their parameters filled in. */
  readonly http: readonly { readonly method: string; readonly path: string }[];
}

/** Starts a manager in this process that serves all it can, and notes what it gives to grpc-js and fastify. */
export async function managerSurface(): Promise<ManagerSurface> {
  const methods = new Map<Server, string[]>();
  const routes: { method: string; path: string }[] = [];
  const register: (...args: unknown[]) => boolean = Server.prototype.register as never;
  const spy = vi.spyOn(Server.prototype, 'register').mockImplementation(function (this: Server, ...args: unknown[]) {
    const list = methods.get(this) ?? [];
    methods.set(this, [...list, String(args[0])]);
    return register.apply(this, args);
  } as never);
  const onFastify = (message: unknown) => {
    const app = (message as { fastify: FastifyInstance }).fastify;
    app.addHook('onRoute', ({ method, url }: RouteOptions) => {
      const path = url.replaceAll('*', 'x').replaceAll(/:\w+/g, 'x');
      for (const each of [method].flat()) routes.push({ method: each, path });
    });
  };
  subscribe('fastify.initialization', onFastify);
  try {
    const watch = { watches: [], interval: 60_000, keep: 60_000, upstream: '127.0.0.1:1', pullTimeout: 1000 };
    await using _manager = await startTestManager({ watch });
  } finally {
    spy.mockRestore();
    unsubscribe('fastify.initialization', onFastify);
  }
  const has = (service: string) => [...methods.values()].find((list) => list.some((path) => path.startsWith(service)));
  return { grpc: has('/gear.v1.Images/') ?? [], monitor: has('/gear.v1.Monitor/') ?? [], http: routes };
}
