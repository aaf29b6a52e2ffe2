import { errnoName } from './errno.ts';
import type { Operation } from './operations.ts';
import { OUT_HEADER_BYTES } from './reply.ts';
import { type FuseRequest, type Uint64, uint64Key } from './request.ts';

function numberOf({ high, low }: Uint64): string {
  return String(high * 2 ** 32 + low);
}

/** "rx 12 LOOKUP n1:80000003 "ab" pid 7": a request by its number (with "again" when it was sent before), operation, node, name. */
export function requestLine(request: FuseRequest, operation: Operation | undefined): string {
  const name = operation?.nameAt === undefined ? '' : ` ${JSON.stringify(request.nameAt(operation.nameAt))}`;
  const again = request.resent ? ' again' : '';
  return `rx ${numberOf(request.number)}${again} ${operation?.name ?? `operation ${request.opcode}`} n${uint64Key(request.node)}${name} pid ${request.pid}`;
}

/** "tx 12 OK 128 bytes" or "tx 12 ENOENT". */
export function replyLine(unique: Uint64, error: number, bytes: number): string {
  const number = numberOf({ high: unique.high & 0x7fff_ffff, low: unique.low });
  return `tx ${number} ${error === 0 ? `OK ${bytes - OUT_HEADER_BYTES} bytes` : errnoName(error)}`;
}
