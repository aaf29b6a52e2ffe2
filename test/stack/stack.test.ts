import { readdir, readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { mountsBelow } from '../../deploy/sandbox/cleanup.ts';
import { demoRows } from './demo-table.ts';
import { filesOf, type Reader, startReader } from './readers.ts';
import { schemaErrors } from './schema.ts';
import { type ServiceName, type Stack, startStackDockerd } from './stack.ts';

const ORDINARY = 'registry:5000/demo/gear-manager:latest';
const GEAR = 'registry:5000/demo/gear-manager-gear:latest';

/** What a node runs, and how its processes are told. */
const ON_A_NODE = [
  ['driver', /driver\/main\.ts/],
  ['object filesystem, server', /objectfs\/server\.ts/],
  ['object filesystem, supervisor', /objectfs\/supervisor\.ts/],
  ['dockerd', /^dockerd /],
  ['containerd', /^containerd /],
] as const;

/** The processes in a cgroup and below. */
async function processesIn(cgroup: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const groups = await Promise.all(
    pids.map(async (pid) => await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '')),
  );
  return pids.filter((_, i) => groups[i]?.includes(`/${cgroup}`));
}

describe('docker-compose.yml', () => {
  const resources = new AsyncDisposableStack();
  const readers: Reader[] = [];
  let interfaces: string[];
  let stack: Stack;

  beforeAll(async () => {
    interfaces = await readdir('/sys/class/net');
    stack = resources.use(await startStackDockerd());
  });
  afterAll(() => resources.disposeAsync());
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') console.log(await stack.compose('logs', '--no-color', '--tail', '40'));
  });

  /** The process of a service that matches; waits for one other than `not`. */
  const processOf = async (service: ServiceName, pattern: RegExp, not?: number): Promise<number> =>
    await until(
      `a process ${pattern} of ${service}`,
      async () => (await stack.processes(service)).find(({ pid, args }) => pid !== not && pattern.test(args))?.pid,
      { timeout: 60_000, interval: 250 },
    );
  const allRead = async (): Promise<void> => {
    for (const reader of readers) {
      await reader.advance(20);
      expect((await reader.progress()).wrong, reader.name).toEqual([]);
    }
  };

  it('is what docker-compose 1.29 and the Compose specification take', async () => {
    await stack.compose('config', '--quiet');
    expect(await schemaErrors()).toEqual([]);
  });

  it('comes up from nothing', async () => {
    await stack.run('deploy/docker/base-images', [], { timeout: 900_000 });
    await stack.compose('up', '--detach');
    await stack.healthy();
    expect(await stack.exec('manager', ['id', '--user'])).toBe('1000');
  });

  it('shows that a second node needs a small part of what the first needed', async () => {
    const output = await stack.run('deploy/docker/demo', [], { timeout: 600_000 });
    const rows = demoRows(output);
    console.log(output);
    expect(rows.map(({ node, what }) => `${node}: ${what}`)).toEqual([
      'node1: ordinary image, Docker',
      'node1: Gear image, Docker',
      'node2: Gear image, Docker',
      'node2: a second container',
      'node2: ordinary name, containerd',
    ]);
    const [ordinary = 0, first = 0, second = 0, again = 0, containerd = 0] = rows.map(({ received }) => received);
    expect(first).toBeLessThan(ordinary / 2);
    expect(second).toBeLessThan(ordinary / 5);
    expect(second).toBeLessThan(first / 2);
    expect(again).toBeLessThan(second / 10);
    expect(containerd).toBeLessThan(second / 5);
  });

  it('lets nobody in without a token and a certificate', async () => {
    const images = async (...variables: readonly string[]) =>
      await stack.compose('run', '--rm', ...variables.map((name) => `-e${name}=`), 'cli', 'images');
    expect(await images()).toContain(ORDINARY);
    await expect(images('GEAR_TOKEN_FILE')).rejects.toThrow('lets only those in who have a token');
    await expect(images('GEAR_TLS_CERT', 'GEAR_TLS_KEY')).rejects.toThrow('wants a certificate of its clients');
    const get = `fetch('https://manager:2020/metrics').then(({ status }) => console.log(status), ({ cause }) => console.log(cause.code))`;
    expect(await stack.exec('node1', ['env', 'NODE_EXTRA_CA_CERTS=/etc/gear/ca.crt', 'node', '--eval', get])).toBe(
      '401',
    );
  });

  it('has nodes on which gear doctor finds nothing missing', async () => {
    expect(await stack.exec('node1', ['gear', 'doctor'])).toContain('All that Gear needs is there.');
  });

  it('starts containers that read on both nodes', async () => {
    const files = await filesOf(stack, 'gear-manager', 8_000);
    expect(files.length).toBe(8_000);
    readers.push(
      await startReader(stack, { node: 'node1', engine: 'docker', image: GEAR, files }),
      await startReader(stack, { node: 'node2', engine: 'docker', image: GEAR, files }),
      await startReader(stack, { node: 'node2', engine: 'containerd', image: ORDINARY, files: files.toReversed() }),
    );
    await allRead();
  });

  it.each(['registry', 'manager'] as const)('%s is killed: containers go on reading', async (service) => {
    const pid = async () => (await stack.docker.inspect(stack.container(service))).State.Pid;
    const before = await pid();
    process.kill(before, 'SIGKILL');
    await until(`another ${service}`, async () => ![0, before].includes(await pid()), { timeout: 60_000 });
    await stack.healthy([service]);
    await allRead();
  });

  it('the NFS server of the manager is killed: containers go on reading', async () => {
    const pid = await processOf('manager', /^ganesha\.nfsd/);
    process.kill(pid, 'SIGKILL');
    await processOf('manager', /^ganesha\.nfsd/, pid);
    await allRead();
  });

  const onNodes = (['node1', 'node2'] as const).flatMap((node) =>
    ON_A_NODE.map(([name, pattern]) => ({ node, name, pattern })),
  );
  it.each(onNodes)('$name of $node is killed: containers go on reading', async ({ node, pattern }) => {
    const pid = await processOf(node, pattern);
    process.kill(pid, 'SIGKILL');
    await processOf(node, pattern, pid);
    await until(
      `the health of ${node}`,
      async () => {
        const { exitCode } = await stack.docker.attempt(['exec', stack.container(node), 'node-health']);
        return exitCode === 0;
      },
      { timeout: 90_000, interval: 250 },
    );
    await allRead();
  });

  it('was never more than a pause for what ran', async () => {
    for (const reader of readers) {
      const { right, wrong, pause } = await reader.progress();
      console.log(`${reader.name}: ${right} files read, longest pause ${pause.toFixed(1)} s`);
      expect(wrong).toEqual([]);
      expect(pause).toBeLessThan(30);
    }
    for (const node of ['node1', 'node2'] as const) {
      const state = await stack.exec(node, [
        'docker',
        'inspect',
        '--format={{.State.Status}} {{.RestartCount}}',
        'docker-reader',
      ]);
      expect(state, node).toBe('running 0');
      expect(await stack.exec(node, ['docker', 'exec', 'docker-reader', 'cat', '/opt/gear/package.json'])).toContain(
        '"gear"',
      );
      expect(await stack.exec(node, ['docker', 'run', '--rm', GEAR, 'images', '--help'])).toContain('Usage');
    }
    expect(await stack.exec('node2', ['ctr', 'tasks', 'list'])).toMatch(/containerd-reader +\d+ +RUNNING/);
  });

  it.each(['is restarted', 'loses its power'])('a node that %s has what it had before', async (how) => {
    const { docker, compose, container } = stack;
    if (how === 'is restarted') await compose('restart', 'node1');
    else process.kill((await docker.inspect(container('node1'))).State.Pid, 'SIGKILL');
    // Until the first check its health is that of before.
    await until('a beginning', async () => (await docker.run(['ps'])).includes('(health: starting)'), {
      timeout: 30_000,
    });
    await stack.healthy(['node1']);
    const run = ['measured', 'docker', 'run', '--rm', GEAR, 'images', '--help'];
    const [, received, objects, line] = (await stack.exec('node1', run)).split('\t');
    expect(line).toContain('Usage');
    expect(Number(objects)).toBe(0);
    expect(Number(received)).toBeLessThan(2 ** 20);
  });

  it('goes without leaving anything', async () => {
    await stack.compose('down', '--volumes');
    const { docker, dockerd } = stack;
    expect(await docker.run(['ps', '--all', '--quiet'])).toBe('');
    expect(await docker.run(['volume', 'ls', '--quiet'])).toBe('');
    expect(await docker.run(['network', 'ls', '--filter', 'type=custom', '--quiet'])).toBe('');
    expect(mountsBelow(dockerd.dataRoot).filter((path) => path !== dockerd.dataRoot)).toEqual([]);
    expect(await processesIn(basename(dockerd.folder))).toEqual([]);
    expect((await readdir('/sys/class/net')).filter((name) => !interfaces.includes(name))).toEqual([]);
  });
});
