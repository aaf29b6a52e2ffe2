import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';

/** A network that is slower than this machine. */
export interface LinkSpeed {
  readonly name: string;
  /** As tc writes it: "100mbit". */
  readonly rate: string;
  /** Milliseconds there and back. */
  readonly roundTrip: number;
}

export interface Link extends AsyncDisposable {
  /** Where clients find the servers: the ports are those of the servers. */
  readonly host: string;
  /** Bytes that servers have sent over the link. */
  received(): Promise<number>;
}

const script = (name: string): string => fileURLToPath(new URL(`./${name}.ts`, import.meta.url));

/** Makes servers at loopback ports reachable over a slow link: a network namespace whose way out tc narrows, and a relay in it that is late. */
export async function openLink({ rate, roundTrip }: LinkSpeed, ports: readonly number[]): Promise<Link> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const number = process.pid % 200;
  const name = `gear-link-${process.pid}`;
  const [near, far] = [`gl${process.pid}a`, `gl${process.pid}b`];
  const [hostAddress, address] = [`10.213.${number}.1`, `10.213.${number}.2`];
  const ip = async (...args: string[]) => await execa('ip', args);
  await ip('netns', 'add', name);
  stack.defer(async () => void (await ip('netns', 'delete', name)));
  await ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name);
  await ip('address', 'add', `${hostAddress}/30`, 'dev', near);
  await ip('link', 'set', near, 'up');
  await ip('-n', name, 'address', 'add', `${address}/30`, 'dev', far);
  await ip('-n', name, 'link', 'set', far, 'up');
  await ip('-n', name, 'link', 'set', 'lo', 'up');
  const shape = ['qdisc', 'add', 'dev', far, 'root', 'tbf', 'rate', rate, 'burst', '128kb', 'latency', '50ms'];
  await execa('ip', ['netns', 'exec', name, 'tc', ...shape]);
  const socket = (port: number): string => join(folder.path, String(port));
  await start(stack, process.execPath, [script('link-end'), ...ports.map((port) => `${socket(port)}=${port}`)]);
  const relay = [
    script('link-relay'),
    address,
    String(roundTrip / 2),
    ...ports.map((port) => `${port}=${socket(port)}`),
  ];
  const { child, lines } = await start(stack, 'ip', ['netns', 'exec', name, process.execPath, ...relay]);
  const owned = stack.move();
  return {
    host: address,
    received: async () => {
      const answer = once(lines, 'line');
      child.stdin?.write('\n');
      return Number((await answer)[0]);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function start(
  stack: AsyncDisposableStack,
  command: string,
  args: readonly string[],
): Promise<{ child: ChildProcess; lines: Interface }> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const gone = once(child, 'exit');
  stack.defer(async () => {
    child.stdin?.end();
    await gone;
  });
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const ended = gone.then(() => Promise.reject(new Error(`${args[0]} has ended`)));
  ended.catch(() => {});
  await Promise.race([once(lines, 'line'), ended]);
  return { child, lines };
}
