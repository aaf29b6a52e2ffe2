import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { digestFromBytes, objectPath } from '#core/digest.ts';
import { FLOW_CONTROL_WINDOW, MAX_PIECE_BYTES } from '#core/grpc/limits.ts';
import {
  type ContentStoreServer,
  ContentStoreService,
  type FindMissingRequest,
  type FindMissingResponse,
  type Range,
  type ReadManyRequest,
  type ReadManyResponse,
  type ReadRequest,
  type ReadResponse,
} from '#proto/gen/gear/v1/objects.ts';

// A content store over a folder of objects, for tests that damage, slow down or count what it serves. A process of its own:
//
//   content-server.ts FOLDER PORT     prints "listening PORT", then a line "DIGEST OFFSET LENGTH" for each range asked
//
// A line "delay MILLISECONDS" on standard input slows every answer down.

const [folder, port] = process.argv.slice(2) as [string, string];
let delay = 0;

async function load({ digest, offset, length }: Range): Promise<Buffer> {
  const name = digestFromBytes(digest);
  console.log(`${name} ${offset} ${length}`);
  if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
  const fd = openSync(join(folder, objectPath(name)), 'r');
  try {
    const bytes = Buffer.alloc(length === 0n ? fstatSync(fd).size - Number(offset) : Number(length));
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, Number(offset)));
  } finally {
    closeSync(fd);
  }
}

function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += MAX_PIECE_BYTES) yield bytes.subarray(at, at + MAX_PIECE_BYTES);
}

async function readOne(call: ServerWritableStream<ReadRequest, ReadResponse>): Promise<void> {
  try {
    for (const data of pieces(await load(call.request.range as Range))) call.write({ data });
    call.end();
  } catch (error) {
    call.emit('error', { code: status.NOT_FOUND, details: String(error) });
  }
}

async function readMany(call: ServerDuplexStream<ReadManyRequest, ReadManyResponse>): Promise<void> {
  for await (const { ranges } of call as AsyncIterable<ReadManyRequest>) {
    for (const range of ranges) {
      try {
        const all = [...pieces(await load(range))];
        for (const [i, data] of all.entries()) call.write({ data, last: i === all.length - 1, code: 0, message: '' });
      } catch (error) {
        call.write({ data: Buffer.alloc(0), last: true, code: status.NOT_FOUND, message: String(error) });
      }
    }
  }
  call.end();
}

const service: ContentStoreServer = {
  findMissing: (
    _call: ServerUnaryCall<FindMissingRequest, FindMissingResponse>,
    done: sendUnaryData<FindMissingResponse>,
  ) => done(null, { digests: [] }),
  read: (call) => void readOne(call),
  readMany: (call) => void readMany(call).catch(() => {}),
  prefetch: (call) => call.emit('error', { code: status.NOT_FOUND, details: 'nothing is learned here' }),
  write: (_call, done) => done({ code: status.UNIMPLEMENTED }),
};

const server = new Server({ 'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW });
server.addService(ContentStoreService, service);
server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) => {
  if (error !== null) throw error;
  console.log(`listening ${bound}`);
});
process.stdin.setEncoding('utf8').on('data', (text: string) => {
  const match = /delay (\d+)/.exec(text);
  if (match !== null) delay = Number(match[1]);
});
process.stdin.on('end', () => process.exit(0));
