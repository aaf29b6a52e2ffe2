import { directoryBody } from './directory.ts';
import { FuseError } from './errno.ts';
import type { Awaitable, Call, FileSystem } from './file-system.ts';
import { attributesBody, entryBody, openBody, statisticsBody } from './reply.ts';
import { type FuseRequest, uint64ToNumber } from './request.ts';

/** What goes back for a request: the pieces of the body, and what is to be done once the kernel has them (or would not take them). */
export interface Answer {
  readonly body: readonly Uint8Array[];
  after?(delivered: boolean): void;
}

/** One of the kernel's operations. */
export interface Operation {
  readonly name: string;
  /** The least that the body must have. */
  readonly bodyBytes: number;
  /** Where in the body a name stands, for operations that have one. */
  readonly nameAt?: number;
  /** How it is answered; "none": not at all. "interrupt" and "init" are the protocol's own affair. */
  readonly handle:
    | 'init'
    | 'interrupt'
    | 'none'
    | 'read-only'
    | ((fs: FileSystem, request: FuseRequest, call: Call) => Awaitable<Answer>);
}

const NOTHING: Answer = { body: [] };
const NO_HANDLE = { high: 0, low: 0 };

async function later(promise: Promise<Answer>): Promise<Answer> {
  return await promise;
}

function then<T>(value: Awaitable<T>, answer: (value: T) => Answer): Awaitable<Answer> {
  return value instanceof Promise ? later(value.then(answer)) : answer(value);
}

function missing(): never {
  throw new FuseError('ENOSYS');
}

/** The answer of GETXATTR and LISTXATTR: with size 0 only how long the value is (u32, padding), else the value. */
function sizedValue(value: Uint8Array, room: number): Answer {
  if (room === 0) {
    const length = Buffer.alloc(8);
    length.writeUInt32LE(value.length, 0);
    return { body: [length] };
  }
  if (value.length > room) throw new FuseError('ERANGE');
  return { body: [value] };
}

// struct fuse_read_in: u64 fh, offset; u32 size, read_flags; u64 lock_owner; u32 flags, padding.
function readDirectory(plus: boolean): (fs: FileSystem, request: FuseRequest) => Answer {
  return (fs, request) => ({
    body: [directoryBody(fs.list(request.node, uint64ToNumber(request.uint64(8))), request.uint32(16), plus)],
  });
}

function readOnly(name: string): Operation {
  return { name, bodyBytes: 0, handle: 'read-only' };
}

/** enum fuse_opcode of linux/fuse.h, as far as it is not ENOSYS. */
export const OPERATIONS: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [
    1,
    {
      name: 'LOOKUP',
      bodyBytes: 1,
      nameAt: 0,
      handle: (fs, request, call) =>
        then(fs.lookup(request.node, request.nameAt(0), call), (entry) => ({ body: [entryBody(entry)] })),
    },
  ],
  [2, { name: 'FORGET', bodyBytes: 8, handle: 'none' }],
  [
    3,
    {
      name: 'GETATTR',
      bodyBytes: 16,
      handle: (fs, request) => {
        const { attributes, seconds } = fs.attributes(request.node);
        return { body: [attributesBody(attributes, seconds)] };
      },
    },
  ],
  [4, readOnly('SETATTR')],
  [
    5,
    {
      name: 'READLINK',
      bodyBytes: 0,
      handle: (fs, request) => ({ body: [(fs.readLink ?? missing).call(fs, request.node)] }),
    },
  ],
  [6, readOnly('SYMLINK')],
  [8, readOnly('MKNOD')],
  [9, readOnly('MKDIR')],
  [10, readOnly('UNLINK')],
  [11, readOnly('RMDIR')],
  [12, readOnly('RENAME')],
  [13, readOnly('LINK')],
  [
    14,
    {
      name: 'OPEN',
      bodyBytes: 8,
      handle: (fs, request, call) =>
        then(fs.open(request.node, call), (opened) => ({
          body: [openBody(opened.handle, opened.flags, opened.backingId)],
          after: (delivered) => {
            if (!delivered) opened.undelivered?.();
          },
        })),
    },
  ],
  [
    15,
    {
      name: 'READ',
      bodyBytes: 40,
      handle: (fs, request, call) =>
        then(fs.read(request.node, uint64ToNumber(request.uint64(8)), request.uint32(16), call), (body) => ({ body })),
    },
  ],
  [16, readOnly('WRITE')],
  [17, { name: 'STATFS', bodyBytes: 0, handle: (fs) => ({ body: [statisticsBody(fs.statistics())] }) }],
  // struct fuse_release_in: u64 fh; ... The reply goes last: when this process is killed before it, the release comes again; after it nobody would know.
  [
    18,
    {
      name: 'RELEASE',
      bodyBytes: 24,
      handle: (fs, request) => {
        fs.release(request.node, request.uint64(0));
        return NOTHING;
      },
    },
  ],
  [21, readOnly('SETXATTR')],
  // struct fuse_getxattr_in: u32 size, padding; the name.
  [
    22,
    {
      name: 'GETXATTR',
      bodyBytes: 9,
      nameAt: 8,
      handle: (fs, request) => {
        const value = (fs.extendedAttribute ?? missing).call(fs, request.node, request.nameAt(8));
        if (value === undefined) throw new FuseError('ENODATA');
        return sizedValue(value, request.uint32(0));
      },
    },
  ],
  [
    23,
    {
      name: 'LISTXATTR',
      bodyBytes: 8,
      handle: (fs, request) =>
        sizedValue((fs.extendedAttributeNames ?? missing).call(fs, request.node), request.uint32(0)),
    },
  ],
  [24, readOnly('REMOVEXATTR')],
  [26, { name: 'INIT', bodyBytes: 16, handle: 'init' }],
  [27, { name: 'OPENDIR', bodyBytes: 8, handle: () => ({ body: [openBody(NO_HANDLE, 0)] }) }],
  [28, { name: 'READDIR', bodyBytes: 40, handle: readDirectory(false) }],
  [29, { name: 'RELEASEDIR', bodyBytes: 24, handle: () => NOTHING }],
  [35, readOnly('CREATE')],
  // struct fuse_interrupt_in: u64 unique.
  [36, { name: 'INTERRUPT', bodyBytes: 8, handle: 'interrupt' }],
  [38, { name: 'DESTROY', bodyBytes: 0, handle: () => NOTHING }],
  [42, { name: 'BATCH_FORGET', bodyBytes: 8, handle: 'none' }],
  [43, readOnly('FALLOCATE')],
  [44, { name: 'READDIRPLUS', bodyBytes: 40, handle: readDirectory(true) }],
  [45, readOnly('RENAME2')],
  [47, readOnly('COPY_FILE_RANGE')],
  [51, readOnly('TMPFILE')],
]);
