import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { type TemporaryFolder, temporaryFolder } from './cleanup.ts';
import { program } from './packages.ts';
import { freePort } from './ports.ts';
import { RunningProcess } from './process.ts';

export interface RegistryOptions {
  /** Wants this name and password of everybody. */
  readonly login?: { readonly user: string; readonly password: string };
  /** Tells this URL what is pushed and deleted. */
  readonly notify?: string;
}

/** One request as the registry logged it. */
export interface RegistryRequest {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** Bytes of the answer's body. */
  readonly bytes: number;
}

/** Debian's docker-registry on a loopback port, without TLS, with a data folder of its own. */
export interface Registry extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly host: string;
  readonly folder: string;
  readonly process: RunningProcess;
  /** Every request so far, from its access log. */
  requests(): RegistryRequest[];
}

function notificationsTo(url: string): Record<string, unknown> {
  return { endpoints: [{ name: 'test', url, timeout: '2s', threshold: 3, backoff: '1s' }] };
}

function configOf(folder: string, port: number, { login, notify }: RegistryOptions): string {
  const auth = login !== undefined ? { auth: { htpasswd: { realm: 'test', path: join(folder, 'htpasswd') } } } : {};
  return JSON.stringify({
    version: 0.1,
    log: { level: 'info', accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: join(folder, 'data') }, delete: { enabled: true } },
    http: { addr: `127.0.0.1:${port}`, secret: 'of-a-test' },
    ...auth,
    ...(notify === undefined ? {} : { notifications: notificationsTo(notify) }),
  });
}

// bcrypt, the only kind that the registry takes. Debian's libxcrypt does it behind perl's crypt().
async function htpasswd(user: string, password: string): Promise<string> {
  const salt = '$2y$05$abcdefghijklmnopqrstuu';
  const { stdout } = await execa('perl', ['-e', 'print crypt($ARGV[0], $ARGV[1])', password, salt]);
  if (!stdout.startsWith('$2y$')) throw new Error(`perl's crypt does not know bcrypt: ${stdout}`);
  return `${user}:${stdout}\n`;
}

/** Starts a registry and waits until it answers. */
export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  await using stack = new AsyncDisposableStack();
  const folder: TemporaryFolder = stack.use(await temporaryFolder());
  const port = await freePort();
  await mkdir(join(folder.path, 'data'));
  const config = join(folder.path, 'config.yml');
  await writeFile(config, configOf(folder.path, port, options));
  if (options.login !== undefined) {
    await writeFile(join(folder.path, 'htpasswd'), await htpasswd(options.login.user, options.login.password));
  }
  const running = stack.use(
    await RunningProcess.start({
      name: 'registry',
      command: program('docker-registry'),
      args: ['serve', config],
      env: { OTEL_TRACES_EXPORTER: 'none' },
    }),
  );
  const host = `127.0.0.1:${port}`;
  await running.waitUntil('answers', async () => {
    const answer = await fetch(`http://${host}/v2/`).catch(() => undefined);
    await answer?.body?.cancel();
    return answer !== undefined && (answer.ok || answer.status === 401);
  });
  const owned = stack.move();
  return {
    host,
    folder: folder.path,
    process: running,
    requests: () => parseAccessLog(running.output),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Reads the lines of an Apache combined log among others. */
export function parseAccessLog(text: string): RegistryRequest[] {
  const pattern = /"([A-Z]+) (\S+) HTTP\/[\d.]+" (\d{3}) (\d+|-)/g;
  return [...text.matchAll(pattern)].map(([, method = '', path = '', status, bytes]) => ({
    method,
    path,
    status: Number(status),
    bytes: bytes === '-' ? 0 : Number(bytes),
  }));
}
