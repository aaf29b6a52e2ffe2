import {
  Client,
  credentials,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
} from '@grpc/grpc-js';
import { connect } from '#core/grpc/client.ts';
import { MAX_MESSAGE_BYTES } from '#core/grpc/limits.ts';
import { type ExportServer, ExportService } from '#proto/gen/gear/v1/export.ts';
import { ContentStoreService } from '#proto/gen/gear/v1/objects.ts';
import { startTcpRelay, type TcpRelay } from './tcp-relay.ts';

/** A real manager seen through two wires that can be slow or cut: one for gRPC, one for its NFS export. */
export interface RelayedManager extends AsyncDisposable {
  /** "127.0.0.1:PORT" of gRPC, for nodes. */
  readonly address: string;
  readonly grpc: TcpRelay;
  readonly nfs: TcpRelay;
}

const SIZES = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
};
const bytesAsTheyAre = (bytes: Buffer): Buffer => bytes;

/** Stands between nodes and the manager at `manager`, whose NFS server listens at `nfsPort`; nodes are told to go through the wire. */
export async function startRelayedManager(manager: string, nfsPort: number): Promise<RelayedManager> {
  await using stack = new AsyncDisposableStack();
  const nfs = stack.use(await startTcpRelay(nfsPort));
  const behind = stack.use(connect(manager));
  const client = new Client(manager, credentials.createInsecure(), SIZES);
  stack.defer(() => client.close());
  const server = new Server(SIZES);
  stack.defer(() => server.forceShutdown());

  const describeExport: ExportServer['describeExport'] = (_call, done) =>
    void behind.unary(ExportService.describeExport, {}, { timeout: 5_000 }).then(
      (description) => done(null, { ...description, host: '127.0.0.1', port: nfs.port }),
      (error: unknown) => done(error as Error),
    );
  server.addService(ExportService, { describeExport });

  // Messages of the content store are passed on as bytes, each call as a stream both ways: that is what calls are on the wire.
  const methods = Object.entries(ContentStoreService) as [string, MethodDefinition<unknown, unknown>][];
  const passing = methods.map(([name, { path }]) => [
    name,
    {
      path,
      requestStream: true as const,
      responseStream: true as const,
      requestSerialize: bytesAsTheyAre,
      requestDeserialize: bytesAsTheyAre,
      responseSerialize: bytesAsTheyAre,
      responseDeserialize: bytesAsTheyAre,
    },
  ]);
  server.addService(
    Object.fromEntries(passing),
    Object.fromEntries(
      methods.map(([name, { path }]) => [
        name,
        (call: ServerDuplexStream<Buffer, Buffer>) => {
          const far = client.makeBidiStreamRequest(path, bytesAsTheyAre, bytesAsTheyAre);
          call.on('cancelled', () => far.cancel()).on('error', () => far.cancel());
          far.on('error', (error) => call.emit('error', error));
          call.on('data', (message: Buffer) => far.write(message)).on('end', () => far.end());
          far.on('data', (message: Buffer) => call.write(message)).on('end', () => call.end());
        },
      ]),
    ),
  );
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
    error === null ? resolve(port) : reject(error),
  );
  const grpc = stack.use(await startTcpRelay(await promise));
  const owned = stack.move();
  return {
    address: `127.0.0.1:${grpc.port}`,
    grpc,
    nfs,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
