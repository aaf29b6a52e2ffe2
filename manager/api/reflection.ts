import { fileURLToPath } from 'node:url';
import type { Server } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';

const PROTO_FOLDER = fileURLToPath(new URL('../../proto/', import.meta.url));

/** Adds the standard reflection service, so that tools like grpcurl need no .proto files. `files`: names below proto/. */
export function addReflection(server: Server, files: readonly string[]): void {
  new ReflectionService(loadSync([...files], { includeDirs: [PROTO_FOLDER] })).addToServer(server);
}
