import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { FuseError } from './errno.ts';
import type { Call, FileSystem, Opened } from './file-system.ts';
import { Protocol, type ProtocolOptions } from './protocol.ts';
import type { Entry } from './reply.ts';

const entry: Entry = {
  attributes: { node: { high: 3, low: 0x8000_0007 }, size: 0x1_0000_0005, mode: 0o100444, links: 1 },
  nameSeconds: 60,
  attributeSeconds: 61,
};

class Recorded {
  readonly sent: string[] = [];
  readonly released: string[] = [];
  delivered = true;
  readonly fileSystem: FileSystem = {
    lookup: (parent, name) => {
      if (name !== 'ab') throw new FuseError('ENOENT');
      expect(parent).toEqual({ high: 3, low: 1 });
      return entry;
    },
    attributes: () => ({ attributes: entry.attributes, seconds: 9 }),
    open: (_node, call) => ({
      handle: call.number,
      flags: 0x80,
      backingId: 5,
      undelivered: () => this.released.push('undelivered'),
    }),
    read: async (_node, offset, size) => [Buffer.from(`${offset}`), Buffer.from(`+${size}`)],
    release: (_node, { low }) => this.released.push(`released ${low}, ${this.sent.length} sent`),
    list: (_node, offset) => [1, 2, 3].filter((i) => i > offset).map((i) => ({ name: `n${i}`, entry, next: i })),
    statistics: () => ({ blocks: 10, freeBlocks: 9, availableBlocks: 8, files: 7, freeFiles: 6, blockSize: 4096 }),
  };

  protocol(options: Partial<ProtocolOptions> = {}): Protocol {
    return new Protocol({
      fileSystem: this.fileSystem,
      send: (pieces) => {
        this.sent.push(Buffer.concat(pieces).toString('hex'));
        return this.delivered;
      },
      log: silentLogger(),
      onInit: () => {},
      ...options,
    });
  }
}

function u32(...values: number[]): string {
  return values
    .map((value) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(value >>> 0);
      return bytes.toString('hex');
    })
    .join('');
}

/** A message: opcode, number (low, high), node (low, high), body in hex. */
function message(opcode: number, body = '', { unique = [2, 0], node = [1, 3] } = {}): Buffer {
  const header = u32(40 + body.length / 2, opcode, ...unique, ...node, 1000, 1001, 77, 0);
  return Buffer.from(header + body, 'hex');
}

const name = (text: string) => `${Buffer.from(text).toString('hex')}00`;

// An INIT of Linux 6.18, as read from /dev/fuse.
const INIT = Buffer.from(
  '680000001a0000000200000000000000000000000000000000000000000000000000000000000000070000002d00000000000200fbffff73fd050000'.padEnd(
    208,
    '0',
  ),
  'hex',
);

/** Gives a message to a protocol that answers it at once. */
function feed(protocol: Protocol, bytes: Buffer): void {
  expect(protocol.handle(bytes)).toBeUndefined();
}

describe('INIT', () => {
  test('takes what it knows of what the kernel offers', () => {
    const at = new Recorded();
    const negotiated: unknown[] = [];
    feed(at.protocol({ onInit: (value) => negotiated.push(value) }), INIT);
    expect(negotiated).toEqual([{ minor: 45, passthrough: true, resend: true }]);
    const flags = 0x4000_0000 | (1 << 23) | (1 << 22) | (1 << 18) | (1 << 14) | (1 << 13) | 1;
    expect(at.sent).toEqual([
      u32(80, 0, 2, 0, 7, 45, 131072, flags, 64 | (48 << 16), 4096, 1, 32, 0xe0, 1) + '00'.repeat(24),
    ]);
  });

  test('asks for nothing that an older kernel lacks, and refuses one that is too old', () => {
    const at = new Recorded();
    const negotiated: unknown[] = [];
    const protocol = at.protocol({ onInit: (value) => negotiated.push(value) });
    feed(protocol, message(26, u32(7, 31, 131072, 0x0000_0001)));
    expect(negotiated).toEqual([{ minor: 31, passthrough: false, resend: false }]);
    expect(at.sent[0]?.slice(32 + 24, 32 + 32)).toBe(u32(1));
    feed(protocol, message(26, u32(7, 12, 131072, 1)));
    expect(at.sent[1]).toBe(u32(16, -71, 2, 0));
    // A kernel of the next major version is told ours and asks again.
    feed(protocol, message(26, u32(8, 1, 131072, 1)));
    expect(at.sent[2]?.slice(0, 48)).toBe(u32(80, 0, 2, 0, 7, 45));
    expect(negotiated).toHaveLength(1);
  });
});

test('LOOKUP: the entry with its node, timeouts and attributes', () => {
  const at = new Recorded();
  feed(at.protocol(), message(1, name('ab')));
  expect(at.sent).toEqual([
    u32(16 + 128, 0, 2, 0) +
      u32(0x8000_0007, 3, 0, 0, 60, 0, 61, 0, 0, 0) +
      u32(0x8000_0007, 3, 5, 1, 0x80_0001, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o100444, 1, 0, 0, 0, 4096, 0),
  ]);
});

test('errors: absent names, unknown operations, writing, broken handlers, broken messages', async () => {
  const at = new Recorded();
  const protocol = at.protocol();
  feed(protocol, message(1, name('zz')));
  feed(protocol, message(99));
  feed(protocol, message(16));
  feed(protocol, message(25, '00'.repeat(24)));
  feed(protocol, message(22, u32(0, 0) + name('user.x')));
  feed(protocol, message(15, '00'.repeat(8)));
  feed(protocol, message(1, Buffer.from('no end').toString('hex')));
  expect(at.sent).toEqual([-2, -38, -30, -38, -38, -5, -5].map((errno) => u32(16, errno, 2, 0)));
  feed(protocol, Buffer.from('0000', 'hex'));
  expect(at.sent).toHaveLength(7);
  at.fileSystem.statistics = () => {
    throw new TypeError('a mistake');
  };
  feed(protocol, message(17));
  at.fileSystem.read = () => Promise.reject(new Error('no bytes'));
  await protocol.handle(message(15, '00'.repeat(40)));
  expect(at.sent.slice(7)).toEqual([u32(16, -5, 2, 0), u32(16, -5, 2, 0)]);
});

test('READ comes in pieces, FORGET and BATCH_FORGET without an answer', async () => {
  const at = new Recorded();
  const protocol = at.protocol();
  expect(protocol.handle(message(2, u32(1, 0)))).toBeUndefined();
  expect(protocol.handle(message(42, u32(0, 0)))).toBeUndefined();
  await protocol.handle(message(15, u32(0, 0, 7, 1, 4096, 0, 0, 0, 0, 0)));
  expect(at.sent).toEqual([u32(16 + 15, 0, 2, 0) + Buffer.from('4294967303+4096').toString('hex')]);
});

test('OPEN: flags and backing id; the handle is the number of the request also when it comes again', () => {
  const at = new Recorded();
  const protocol = at.protocol();
  feed(protocol, message(14, u32(0, 0), { unique: [6, 0] }));
  feed(protocol, message(14, u32(0, 0), { unique: [6, 0x8000_0000] }));
  expect(at.sent).toEqual([u32(32, 0, 6, 0, 6, 0, 0x80, 5), u32(32, 0, 6, 0x8000_0000, 6, 0, 0x80, 5)]);
  at.delivered = false;
  feed(protocol, message(14, u32(0, 0)));
  expect(at.released).toEqual(['undelivered']);
});

test('RELEASE is obeyed before it is answered', () => {
  const at = new Recorded();
  feed(at.protocol(), message(18, u32(44, 0, 0, 0, 0, 0)));
  expect(at.released).toEqual(['released 44, 0 sent']);
  expect(at.sent).toEqual([u32(16, 0, 2, 0)]);
});

test('what comes again can be refused', () => {
  const at = new Recorded();
  const protocol = at.protocol({ refuseResent: true });
  feed(protocol, message(1, name('ab'), { unique: [8, 0x8000_0000] }));
  feed(protocol, message(1, name('ab'), { unique: [10, 0] }));
  expect(at.sent.map((reply) => reply.slice(0, 32))).toEqual([u32(16, -5, 8, 0x8000_0000), u32(144, 0, 10, 0)]);
});

test('READDIR and READDIRPLUS give what fits, with the offset to go on from', () => {
  const at = new Recorded();
  const protocol = at.protocol();
  const dirent = (i: number) => u32(0x8000_0007, 3, i, 0, 2, 8) + Buffer.from(`n${i}`).toString('hex') + '00'.repeat(6);
  feed(protocol, message(28, u32(0, 0, 0, 0, 64, 0, 0, 0, 0, 0)));
  feed(protocol, message(28, u32(0, 0, 2, 0, 4096, 0, 0, 0, 0, 0)));
  expect(at.sent).toEqual([u32(80, 0, 2, 0) + dirent(1) + dirent(2), u32(48, 0, 2, 0) + dirent(3)]);
  feed(protocol, message(44, u32(0, 0, 0, 0, 200, 0, 0, 0, 0, 0)));
  const plus = at.sent[2] as string;
  expect(plus).toHaveLength(2 * (16 + 128 + 32));
  expect(plus.slice(32, 64)).toBe(u32(0x8000_0007, 3, 0, 0));
  expect(plus.slice(2 * (16 + 128))).toBe(dirent(1));
});

test('STATFS and GETATTR', () => {
  const at = new Recorded();
  const protocol = at.protocol();
  feed(protocol, message(17));
  feed(protocol, message(3, u32(0, 0, 0, 0)));
  expect(at.sent[0]).toBe(u32(96, 0, 2, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6, 0, 4096, 255, 4096) + '00'.repeat(28));
  expect(at.sent[1]?.slice(0, 64)).toBe(u32(16 + 104, 0, 2, 0, 9, 0, 0, 0));
});

describe('INTERRUPT', () => {
  async function interrupted(
    dying: boolean,
    again = 0,
  ): Promise<{ at: Recorded; call: Call; finish: (opened: Opened) => void; done: Promise<void> }> {
    const at = new Recorded();
    const { promise, resolve, reject } = Promise.withResolvers<Opened>();
    let call: Call | undefined;
    at.fileSystem.open = (_node, given) => {
      call = given;
      given.signal.addEventListener('abort', () => reject(given.signal.reason), { once: true });
      return promise;
    };
    const protocol = at.protocol({ isThreadDying: (pid) => pid === 77 && dying });
    const done = protocol.handle(message(14, u32(0, 0), { unique: [20, again] })) as Promise<void>;
    expect(protocol.calls.size).toBe(1);
    feed(protocol, message(36, u32(20, again), { unique: [21, again] }));
    return { at, call: call as Call, finish: resolve, done };
  }

  test('ends the wait of a thread that is being killed', async () => {
    const { at, call, done } = await interrupted(true);
    await done;
    expect(call.signal.aborted).toBe(true);
    expect(at.sent).toEqual([u32(16, -4, 20, 0)]);
  });

  test('reaches a request that was sent again', async () => {
    const { at, done } = await interrupted(true, 0x8000_0000);
    await done;
    expect(at.sent).toEqual([u32(16, -4, 20, 0x8000_0000)]);
  });

  test('of a signal that kills nobody is put off', async () => {
    const { at, call, finish, done } = await interrupted(false);
    expect(call.signal.aborted).toBe(false);
    await expect.poll(() => at.sent).toEqual([u32(16, -11, 21, 0)]);
    finish({ handle: { high: 0, low: 1 }, flags: 2 });
    await done;
    expect(at.sent[1]).toBe(u32(32, 0, 20, 0, 1, 0, 2, 0));
  });
});

test('each message makes a line at trace', async () => {
  const at = new Recorded();
  const lines: string[] = [];
  const log = pino(
    { level: 'trace', base: null, timestamp: false },
    { write: (line: string) => lines.push((JSON.parse(line) as { msg: string }).msg) },
  );
  const protocol = at.protocol({ log });
  feed(protocol, message(1, name('ab')));
  feed(protocol, message(1, name('zz'), { unique: [4, 0x8000_0000] }));
  feed(protocol, message(77));
  expect(lines).toEqual([
    'rx 2 LOOKUP n3:1 "ab" pid 77',
    'tx 2 OK 128 bytes',
    'rx 4 again LOOKUP n3:1 "zz" pid 77',
    'tx 4 ENOENT',
    'rx 2 operation 77 n3:1 pid 77',
    'tx 2 ENOSYS',
  ]);
});
