import { Server, ServerCredentials } from '@grpc/grpc-js';
import { type ExportDescription, type ExportServer, ExportService } from '#proto/gen/gear/v1/export.ts';

/** A manager that says what a test wants of its NFS export, and nothing else. */
export async function startLyingManager(
  description: ExportDescription,
): Promise<AsyncDisposable & { address: string }> {
  const server = new Server();
  const service: ExportServer = { describeExport: (_call, done) => done(null, description) };
  server.addService(ExportService, service);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
    error === null ? resolve(port) : reject(error),
  );
  const port = await promise;
  return { address: `127.0.0.1:${port}`, [Symbol.asyncDispose]: async () => server.forceShutdown() };
}
