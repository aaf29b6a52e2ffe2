import { digestOf, digestToBytes } from '#core/digest.ts';
import { type Connection, connect } from '#core/grpc/client.ts';
import { silentLogger } from '#core/log.ts';
import { ContentStoreService, type Range, type WriteRequest } from '#proto/gen/gear/v1/objects.ts';
import type { Convert } from './api/conversions.ts';
import { temporaryRoot } from './catalog/testing.ts';
import type { ManagerConfig } from './config.ts';
import { exportConfig } from './export/options.ts';
import { type Manager, startManager } from './manager.ts';

const ANY_PORT = '127.0.0.1:0';

export interface TestManager extends AsyncDisposable {
  readonly manager: Manager;
  readonly root: string;
  readonly connection: Connection;
}

const convertsNothing: Convert = async () => {
  throw new Error('this test converts nothing');
};

/** For tests: a configuration with any free ports. */
export function testConfig(root: string, change: Partial<ManagerConfig> = {}): ManagerConfig {
  return {
    root,
    listen: ANY_PORT,
    monitorListen: ANY_PORT,
    httpListen: ANY_PORT,
    access: {},
    maxConversions: 2,
    grace: 1,
    stopTimeout: 2000,
    rebuild: false,
    nfs: exportConfig({ kind: 'off', listen: '127.0.0.1:2049', allow: '127.0.0.0/8', versions: '4.1' }),
    ...change,
  };
}

/** For tests: a manager in this process, on free ports and a root of its own, and a connection to it. */
export async function startTestManager(
  change: Partial<ManagerConfig> = {},
  convert: Convert = convertsNothing,
): Promise<TestManager> {
  await using stack = new AsyncDisposableStack();
  const { path: root } = stack.use(await temporaryRoot());
  const manager = stack.use(await startManager({ config: testConfig(root, change), log: silentLogger(), convert }));
  const connection = stack.use(connect(manager.addresses.grpc));
  const resources = stack.move();
  return { manager, root, connection, [Symbol.asyncDispose]: async () => await resources.disposeAsync() };
}

/** For tests: the messages that upload contents, in pieces. */
export function* uploadOf(contents: readonly Buffer[], piece = 100_000): Generator<WriteRequest, void, void> {
  for (const bytes of contents) {
    const header = { digest: digestToBytes(digestOf(bytes)), size: BigInt(bytes.length) };
    yield { part: { $case: 'header', value: header } };
    for (let at = 0; at < bytes.length; at += piece) {
      yield { part: { $case: 'data', value: bytes.subarray(at, at + piece) } };
    }
  }
}

/** For tests: uploads contents. Gives how many were new, and their bytes. */
export async function upload(connection: Connection, messages: Iterable<WriteRequest>): Promise<[number, number]> {
  async function* all(): AsyncGenerator<WriteRequest, void, void> {
    yield* messages;
  }
  const { objects, bytes } = await connection.clientStream(ContentStoreService.write, all(), { timeout: 60_000 });
  return [Number(objects), Number(bytes)];
}

/** For tests: a range of these contents. */
export function rangeOf(bytes: Buffer, offset = 0, length = 0): Range {
  return { digest: digestToBytes(digestOf(bytes)), offset: BigInt(offset), length: BigInt(length) };
}

/** For tests: what Read answers. */
export async function read(connection: Connection, range: Range | undefined): Promise<Buffer> {
  const answers = connection.serverStream(ContentStoreService.read, { range }, { timeout: 30_000 });
  return Buffer.concat((await Array.fromAsync(answers)).map(({ data }) => data));
}

export interface Answer {
  readonly code: number;
  readonly bytes: Buffer;
}

/** For tests: what ReadMany answers, range by range. */
export async function readMany(connection: Connection, requests: readonly (readonly Range[])[]): Promise<Answer[]> {
  using exchange = connection.exchange(ContentStoreService.readMany, { timeout: 30_000 });
  const send = async () => {
    for (const ranges of requests) await exchange.send({ ranges: [...ranges] });
    exchange.end();
  };
  const sending = send();
  const answers: Answer[] = [];
  let pieces: Buffer[] = [];
  for await (const { data, last, code } of exchange.answers) {
    pieces.push(data);
    if (!last) continue;
    answers.push({ code, bytes: Buffer.concat(pieces) });
    pieces = [];
  }
  await sending;
  return answers;
}
