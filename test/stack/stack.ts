import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { until } from '#core/abort.ts';
import { runTag } from '../../deploy/sandbox/cleanup.ts';
import type { DockerClient } from '../../deploy/sandbox/docker.ts';
import { type Dockerd, startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { projectRoot } from '../../deploy/sandbox/gear.ts';
import { program } from '../../deploy/sandbox/packages.ts';
import { freePort } from '../../deploy/sandbox/ports.ts';

/** The services of docker-compose.yml that go on running. */
export const SERVICES = ['registry', 'manager', 'node1', 'node2'] as const;
export type ServiceName = (typeof SERVICES)[number];

const PROJECT = `gear${runTag}`;

/** A process in a service's container; `pid` as this machine counts. */
export interface ServiceProcess {
  readonly pid: number;
  readonly args: string;
}

/** docker-compose.yml with a private dockerd. Disposing it takes the stack down, whatever state it is in, and then the dockerd. */
export interface Stack extends AsyncDisposable {
  readonly dockerd: Dockerd;
  readonly docker: DockerClient;
  /** Runs a program of the checkout as a user of the stack would; gives standard output, or throws with all that it said. */
  run(command: string, args: readonly string[], options?: { readonly timeout?: number }): Promise<string>;
  compose(...args: readonly string[]): Promise<string>;
  /** The name of a service's container. */
  container(service: ServiceName): string;
  /** Runs a command in a service's container; gives standard output. */
  exec(service: ServiceName, command: readonly string[], input?: string): Promise<string>;
  processes(service: ServiceName): Promise<ServiceProcess[]>;
  /** Waits until these services' health checks pass. */
  healthy(services?: readonly ServiceName[], timeout?: number): Promise<void>;
}

/** Starts the dockerd; nothing of the stack yet. */
export async function startStackDockerd(): Promise<Stack> {
  await using stack = new AsyncDisposableStack();
  const runtime = ['--add-runtime', `here=${join(projectRoot, 'test/stack/runc-here')}`, '--default-runtime', 'here'];
  const dockerd = stack.use(await startDockerd({ args: runtime }));
  const { docker } = dockerd;
  const env = {
    ...docker.environment,
    PATH: `${dirname(program('docker'))}:${process.env['PATH']}`,
    COMPOSE_PROJECT_NAME: PROJECT,
    GEAR_BUILD_NETWORK: 'host',
    GEAR_REGISTRY_PORT: String(await freePort()),
    GEAR_HTTP_PORT: String(await freePort()),
  };
  const run = async (command: string, args: readonly string[], { timeout = 120_000 } = {}) => {
    const options = { cwd: projectRoot, env, stdin: 'ignore', all: true, reject: false, timeout } as const;
    const { failed, stdout, all, exitCode, timedOut } = await execa(command, args, options);
    if (!failed) return stdout;
    const how = timedOut ? `not within ${timeout} ms` : `exit code ${exitCode}`;
    throw new Error(`${command} ${args.join(' ')}: ${how}\n${all.slice(-6000)}`);
  };
  const compose = async (...args: readonly string[]) => await run('docker-compose', args, { timeout: 900_000 });
  stack.defer(async () => {
    await compose('down', '--volumes', '--timeout', '5');
  });
  const container = (service: ServiceName) => `${PROJECT}_${service}_1`;
  const owned = stack.move();
  return {
    dockerd,
    docker,
    run,
    compose,
    container,
    exec: async (service, command, input) =>
      input === undefined
        ? await docker.run(['exec', container(service), ...command])
        : await docker.run(['exec', '--interactive', container(service), ...command], { input }),
    processes: async (service) => {
      const lines = (await docker.run(['top', container(service), '-eo', 'pid,args'])).split('\n').slice(1);
      return lines.map((line) => {
        const [, pid, args = ''] = /^\s*(\d+)\s+(.*)$/.exec(line) ?? [];
        return { pid: Number(pid), args };
      });
    },
    healthy: async (services = SERVICES, timeout = 120_000) => {
      const format = ['inspect', '--format', '{{.State.Health.Status}}', ...services.map(container)];
      const all = async () => (await docker.run(format)).split('\n').every((status) => status === 'healthy');
      await until(`the health of ${services.join(', ')}`, all, { timeout, interval: 250 });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
