import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { Client, credentials } from '@grpc/grpc-js';
import { loadSync, type ServiceDefinition } from '@grpc/proto-loader';
import { service as healthDefinition } from 'grpc-health-check';
import { describe, expect, it } from 'vitest';
import { sleep } from '#core/abort.ts';
import { connect } from '#core/grpc/client.ts';
import { silentLogger } from '#core/log.ts';
import { type HeartbeatRequest, MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { ContentStoreService } from '#proto/gen/gear/v1/objects.ts';
import { temporaryRoot } from './catalog/testing.ts';
import { startManager } from './manager.ts';
import { randomObject } from './store/testing.ts';
import { rangeOf, read, startTestManager, type TestManager, testConfig, upload, uploadOf } from './testing.ts';

const REFLECTION_PROTO = new URL(
  '../node_modules/@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto',
  import.meta.url,
);

async function get({ manager }: TestManager, path: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://${manager.addresses.http}${path}`);
  return { status: response.status, text: await response.text() };
}

const convert = async () => {
  throw new Error('nothing is converted here');
};

describe('a manager', () => {
  it('says where it listens while it runs', async () => {
    let file: string;
    {
      await using test = await startTestManager();
      file = `${test.root}/addresses.json`;
      expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(test.manager.addresses);
      for (const address of [
        test.manager.addresses.grpc,
        test.manager.addresses.monitor,
        test.manager.addresses.http,
      ]) {
        expect(address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
      }
    }
    expect(existsSync(file)).toBe(false);
  });

  it.each(['listen', 'monitorListen', 'httpListen'] as const)(
    'names an address that is in use (%s)',
    async (option) => {
      await using root = await temporaryRoot();
      const holder = createServer();
      await using _holder = { [Symbol.asyncDispose]: async () => void holder.close() };
      await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve));
      const bound = holder.address();
      const address = `127.0.0.1:${typeof bound === 'object' ? bound?.port : 0}`;
      const config = testConfig(root.path, { [option]: address });
      await expect(startManager({ config, log: silentLogger(), convert })).rejects.toMatchObject({
        code: 'failed-precondition',
        message: expect.stringContaining(`cannot listen on ${address}: another process listens there`),
      });
      // Nothing of it is left: the same root serves at once.
      await using _manager = await startManager({ config: testConfig(root.path), log: silentLogger(), convert });
    },
  );

  it('is refused a root that another manager has', async () => {
    await using test = await startTestManager();
    const second = startManager({ config: testConfig(test.root), log: silentLogger(), convert });
    await expect(second).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringContaining(test.root),
    });
    const { bytes } = randomObject(10);
    await upload(test.connection, uploadOf([bytes]));
  });

  it('lets a call under way end when it stops, and takes no new one', async () => {
    await using test = await startTestManager({ stopTimeout: 20_000 });
    const { bytes } = randomObject(20_000_000);
    await upload(test.connection, uploadOf([bytes], 1_000_000));
    const answers = test.connection.serverStream(
      ContentStoreService.read,
      { range: rangeOf(bytes) },
      { timeout: 20_000 },
    );
    const first = await answers.next();
    const stopping = test.manager[Symbol.asyncDispose]();
    await sleep(100);
    using other = connect(test.manager.addresses.grpc);
    await expect(read(other, rangeOf(bytes, 0, 1))).rejects.toMatchObject({ code: 'unavailable' });
    let size = first.done === true ? 0 : first.value.data.length;
    for await (const { data } of answers) size += data.length;
    expect(size).toBe(bytes.length);
    await stopping;
  });

  it('cuts off at the deadline what does not end', async () => {
    await using test = await startTestManager({ stopTimeout: 300 });
    async function* never() {
      yield* uploadOf([randomObject(10).bytes]);
      await sleep(10_000);
    }
    const writing = test.connection.clientStream(ContentStoreService.write, never(), { timeout: 9000 });
    writing.catch(() => {});
    await sleep(200);
    const began = performance.now();
    await test.manager[Symbol.asyncDispose]();
    expect(performance.now() - began).toBeLessThan(3000);
    await expect(writing).rejects.toMatchObject({ code: 'unavailable' });
  });
});

describe('HTTP', () => {
  it('tells of its health', async () => {
    await using test = await startTestManager();
    const { status, text } = await get(test, '/healthz');
    expect([status, JSON.parse(text)]).toMatchObject([200, { status: 'ok' }]);
    expect((await get(test, '/nothing')).status).toBe(404);
  });

  it('counts', async () => {
    await using test = await startTestManager();
    const { bytes } = randomObject(1000);
    await upload(test.connection, uploadOf([bytes]));
    await read(test.connection, rangeOf(bytes));
    await expect(read(test.connection, rangeOf(randomObject(10).bytes))).rejects.toThrow();
    const { text } = await get(test, '/metrics');
    const lines = text.split('\n');
    expect(lines).toEqual(
      expect.arrayContaining([
        '# TYPE gear_calls_total counter',
        'gear_calls_total{method="Write",code="OK"} 1',
        'gear_calls_total{method="Read",code="OK"} 1',
        'gear_calls_total{method="Read",code="NOT_FOUND"} 1',
        'gear_served_bytes_total 1000',
        'gear_uploaded_objects_total 1',
        'gear_objects 1',
        'gear_object_bytes 1000',
        'gear_images 0',
      ]),
    );
    for (const line of lines) expect(line).toMatch(/^(#.*|[a-z_]+(\{.*\})? -?[\d.e+-]+|)$/);
  });
});

describe('the monitor', () => {
  const heartbeat = (node: string): HeartbeatRequest => ({
    node,
    version: '1',
    images: [],
    cacheBytes: 1n,
    fetchedBytes: 2n,
    fetchedObjects: 3n,
    reads: undefined,
  });

  it('remembers what nodes said last', async () => {
    await using test = await startTestManager();
    using monitor = connect(test.manager.addresses.monitor);
    for (const node of ['b', 'a', 'b']) {
      const { intervalSeconds } = await monitor.unary(MonitorService.heartbeat, heartbeat(node));
      expect(intervalSeconds).toBeGreaterThan(0);
    }
    const { nodes } = await monitor.unary(MonitorService.listNodes, {});
    expect(nodes.map(({ last }) => last?.node)).toEqual(['a', 'b']);
    await expect(monitor.unary(MonitorService.heartbeat, heartbeat(''))).rejects.toMatchObject({
      code: 'invalid-argument',
    });
    await expect(monitor.unary(ContentStoreService.findMissing, { digests: [] })).rejects.toMatchObject({
      code: 'unsupported',
    });
  });
});

/** Calls a method of a service that is known from a .proto file. */
async function ask(address: string, definition: ServiceDefinition, method: string, request: object): Promise<unknown> {
  const { path, requestSerialize, responseDeserialize } = definition[method]!;
  const client = new Client(address, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, {
        deadline: Date.now() + 5000,
      });
      call.on('data', resolve).on('error', reject);
      call.end(request);
    });
  } finally {
    client.close();
  }
}

describe('the standard services', () => {
  it.each(['', 'gear.v1.ContentStore', 'gear.v1.Images'])('tells the health of %j', async (service) => {
    await using test = await startTestManager();
    const { grpc } = test.manager.addresses;
    expect(await ask(grpc, healthDefinition as unknown as ServiceDefinition, 'Check', { service })).toMatchObject({
      status: 'SERVING',
    });
  });

  it('lists its services by reflection', async () => {
    await using test = await startTestManager();
    const definition = loadSync(REFLECTION_PROTO.pathname)['grpc.reflection.v1.ServerReflection'] as ServiceDefinition;
    const answer = await ask(test.manager.addresses.grpc, definition, 'ServerReflectionInfo', { listServices: '*' });
    expect(JSON.stringify(answer)).toContain('gear.v1.ContentStore');
    expect(JSON.stringify(answer)).toContain('gear.v1.Images');
  });
});
