import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sleep, until } from '#core/abort.ts';
import { connect } from '#core/grpc/client.ts';
import { MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { type Dockerd, startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { gearJson, startManager, type TestManager } from '../../deploy/sandbox/gear.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { freePort } from '../../deploy/sandbox/ports.ts';
import { type Registry, startRegistry } from '../../deploy/sandbox/registry.ts';
import { copyImage, manifestDigest } from '../../deploy/sandbox/skopeo.ts';
import { pushImage, quickImage } from '../images/quick.ts';
import { archive, file } from '../images/tar-bytes.ts';
import { type GearNode, startNode } from '../support/cluster.ts';
import { deleteManifest, pushTiny } from '../support/raw-push.ts';
import { startTcpRelay } from '../support/tcp-relay.ts';

interface Listed {
  readonly source: string;
  readonly state: string;
  readonly error?: string | null;
  readonly destination?: string;
  readonly sourceDigest?: string;
}

const list = async (manager: TestManager) => await gearJson<Listed[]>(['images', '--manager', manager.address]);

/** Waits until `gear images` shows this tag in a state. */
async function stateOf(manager: TestManager, source: string, state: string, digest?: string): Promise<Listed> {
  const fits = (image: Listed) =>
    image.source === source && image.state === state && (digest === undefined || image.sourceDigest === digest);
  return await until(`${source} to be ${state}`, async () => (await list(manager)).find(fits), {
    interval: 250,
    timeout: 60_000,
  });
}

async function metric(manager: TestManager, name: string): Promise<number> {
  const text = await (await fetch(`http://${manager.http}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

describe('a watched registry', () => {
  const stack = new AsyncDisposableStack();
  let registry: Registry;
  let manager: TestManager;
  let node: GearNode;
  let builder: Dockerd;
  let plain: string;

  beforeAll(async () => {
    const http = `127.0.0.1:${await freePort()}`;
    registry = stack.use(await startRegistry({ notify: `http://${http}/notifications` }));
    manager = stack.use(
      await startManager({
        insecureRegistries: [registry.host],
        args: [
          ...['--http-listen', http, '--watch', `docker://${registry.host}`],
          ...['--watch-interval', '2', '--watch-keep', '1'],
        ],
      }),
    );
    node = stack.use(await startNode(manager));
    builder = stack.use(await startDockerd());
    plain = `${registry.host}/team/app:1`;
  });
  afterAll(() => stack.disposeAsync());

  it('converts what an unmodified docker pushes, and a node runs it lazily', async () => {
    await builder.docker.run(['import', '-', plain], { input: archive(file('hello', 'of the first version\n')) });
    await builder.docker.run(['push', plain]);
    const { destination } = await stateOf(manager, `docker://${plain}`, 'ready');
    expect(destination).toBe(`docker://${registry.host}/team/app-gear:1`);
    const quick = `${registry.host}/quick:1`;
    await pushImage(quickImage(), `docker://${quick}`);
    await stateOf(manager, `docker://${quick}`, 'ready');
    await node.docker.run(['pull', `${registry.host}/quick-gear:1`]);
    expect(await node.fetched()).toEqual({ objects: 0, bytes: 0 });
    expect(await node.docker.once(`${registry.host}/quick-gear:1`, ['cat', '/etc/marker'])).toBe('quick');
    expect((await node.status()).images).toMatchObject([{ state: 'lazy' }]);
  });

  it('leaves Gear images and what is no image alone', async () => {
    await pushTiny(registry.host, 'chart', '1', 'no image', true);
    await until('the chart to be seen', async () => (await metric(manager, 'gear_watched_ignored')) >= 3);
    const sources = (await list(manager)).map(({ source }) => source);
    expect(sources.filter((source) => /-gear|chart/.test(source))).toEqual([]);
    const { repositories } = (await (await fetch(`http://${registry.host}/v2/_catalog`)).json()) as {
      repositories: string[];
    };
    expect(repositories.sort()).toEqual(['chart', 'quick', 'quick-gear', 'team/app', 'team/app-gear']);
  });

  it('releases what a deleted tag held', async () => {
    const source = `docker://${plain}`;
    const { sourceDigest = '' } = await stateOf(manager, source, 'ready');
    await deleteManifest(registry.host, 'team/app', sourceDigest);
    await until('the release', async () => !(await list(manager)).some((image) => image.source === source), {
      interval: 250,
    });
    await until('the Gear image to be gone', async () => {
      const answer = await fetch(`http://${registry.host}/v2/team/app-gear/tags/list`);
      return !JSON.stringify(await answer.json()).includes('"1"');
    });
  });

  it('converts a tag again when it moves, and keeps the version before while a node has it', async () => {
    const quick = `${registry.host}/quick:1`;
    const old = (await stateOf(manager, `docker://${quick}`, 'ready')).sourceDigest;
    // Nodes say every few seconds what they have.
    using monitor = connect(manager.monitor);
    await until('the node to say that it has the image', async () => {
      const { nodes } = await monitor.unary(MonitorService.listNodes, {}, { timeout: 5000 });
      return nodes.some(({ last }) => (last?.images.length ?? 0) > 0);
    });
    const image = quickImage();
    const changed = { ...image, layers: [...image.layers, { tar: archive(file('etc/marker', 'moved\n')) }] };
    const { manifestDigest: digest } = await pushImage(changed, `docker://${quick}`);
    await stateOf(manager, `docker://${quick}`, 'ready', digest);
    await sleep(3500);
    expect((await list(manager)).map(({ sourceDigest }) => sourceDigest)).toEqual(
      expect.arrayContaining([old, digest]),
    );
    expect(await node.docker.once(`${registry.host}/quick-gear:1`, ['cat', '/etc/marker'])).toBe('quick');
    await node.docker.run(['pull', `${registry.host}/quick-gear:1`]);
    expect(
      await node.docker.once(`${registry.host}/quick-gear:1`, ['cat', '/etc/marker', '/data/small/0001']),
    ).toContain('moved\n');
  });

  it('goes on after a restart in the middle, and after the catalogue was lost', async () => {
    await pushImage(quickImage('third'), `docker://${registry.host}/third:1`);
    await until('the conversion to begin', async () =>
      (await list(manager)).some(({ source }) => /third/.test(source)),
    );
    await manager.kill();
    await pushTiny(registry.host, 'while-away', '1', 'nobody notified');
    await manager.start(['--watch', `docker://${registry.host}`, '--rebuild']);
    await stateOf(manager, `docker://${registry.host}/third:1`, 'ready');
    await stateOf(manager, `docker://${registry.host}/while-away:1`, 'ready');
    expect(await manifestDigest(`docker://${registry.host}/third-gear:1`)).toMatch(/^sha256:/);
    expect((await list(manager)).filter(({ state }) => state !== 'ready')).toEqual([]);
  });
});

describe('a registry that wants a login', () => {
  it('is watched with the credentials of an auth file once there is one', async () => {
    await using stack = new AsyncDisposableStack();
    const login = { user: 'somebody', password: 'a pass:word' };
    const registry = stack.use(await startRegistry({ login }));
    const layout = await writeOciLayout(join(registry.folder, 'layout'), {
      layers: [{ tar: archive(file('hello', 'behind a login\n')) }],
    });
    const place = `docker://${registry.host}/private/app:1`;
    await copyImage(layout.reference, place, { login });
    const authFile = join(registry.folder, 'auth.json');
    const manager = stack.use(
      await startManager({
        insecureRegistries: [registry.host],
        args: ['--watch', `docker://${registry.host}/private`, '--watch-interval', '1'],
        env: { REGISTRY_AUTH_FILE: authFile },
      }),
    );
    await until('the failure', () => manager.process.output.includes('cannot be watched'));
    expect(manager.process.output).toContain('skopeo login');
    const auth = Buffer.from(`${login.user}:${login.password}`).toString('base64');
    await writeFile(authFile, JSON.stringify({ auths: { [registry.host]: { auth } } }));
    await stateOf(manager, place, 'ready');
    expect(manager.process.output).not.toMatch(/a pass:word|c29tZWJvZHk6/);
  });
});

describe('a registry that is slow, and then answers nonsense', () => {
  it('holds no other up, says what is wrong, and is watched again when it is well', async () => {
    await using stack = new AsyncDisposableStack();
    const good = stack.use(await startRegistry());
    const behind = stack.use(await startRegistry());
    const relay = stack.use(await startTcpRelay(Number(behind.host.split(':')[1])));
    const bad = `127.0.0.1:${relay.port}`;
    const big = { layers: [{ tar: archive(file('big', randomBytes(600_000))) }] };
    for (const name of ['a', 'b', 'c']) await pushImage(big, `docker://${behind.host}/${name}:1`);
    relay.late = 500;
    relay.rate = 60_000;
    const manager = stack.use(
      await startManager({
        insecureRegistries: [good.host, bad],
        args: [
          ...['--watch', `docker://${bad}`, '--watch', `docker://${good.host}`],
          ...['--watch-interval', '1', '--max-conversions', '2'],
        ],
      }),
    );
    const isBad = ({ source }: Listed) => source.startsWith(`docker://${bad}/`);
    const badOnes = async () => (await list(manager)).filter(isBad);
    const states = async () => (await badOnes()).map(({ state }) => state).sort();

    await until('all of the slow one', async () => (await states()).length === 3);
    await until('one to be converted', async () => (await states()).includes('converting'));
    await pushTiny(good.host, 'meanwhile', '1', 'beside a slow one');
    await stateOf(manager, `docker://${good.host}/meanwhile:1`, 'ready');
    expect(await states()).toEqual(['converting', 'waiting', 'waiting']);

    relay.nonsense = 'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>';
    await until('the failures', async () => (await badOnes()).every(({ error }) => (error ?? '') !== ''));
    for (const { error } of await badOnes()) expect(error).toContain(bad);
    expect(await states()).not.toContain('ready');
    await until('the watch to say it', () => manager.process.output.includes('cannot be watched'));
    await pushTiny(good.host, 'later', '1', 'beside one that talks nonsense');
    await stateOf(manager, `docker://${good.host}/later:1`, 'ready');

    relay.late = 0;
    relay.rate = undefined;
    relay.nonsense = undefined;
    await pushTiny(behind.host, 'd', '1', 'after it all');
    for (const name of ['a', 'b', 'c', 'd']) await stateOf(manager, `docker://${bad}/${name}:1`, 'ready');
  });
});
