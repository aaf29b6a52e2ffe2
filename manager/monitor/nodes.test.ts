import { describe, expect, it } from 'vitest';
import type { HeartbeatRequest } from '#proto/gen/gear/v1/monitor.ts';
import { Nodes } from './nodes.ts';

const heartbeat = (node: string, version = '1'): HeartbeatRequest => ({
  node,
  version,
  images: [],
  cacheBytes: 0n,
  fetchedBytes: 0n,
  fetchedObjects: 0n,
  reads: undefined,
});

describe('Nodes', () => {
  it('keeps what each said last, by name', () => {
    const nodes = new Nodes(1000);
    nodes.report(heartbeat('b'), 1);
    nodes.report(heartbeat('a'), 2);
    nodes.report(heartbeat('b', '2'), 3);
    expect(nodes.list(4).map(({ last, seenAt }) => [last?.node, last?.version, seenAt])).toEqual([
      ['a', '1', 2n],
      ['b', '2', 3n],
    ]);
  });

  it('forgets who is silent for too long', () => {
    const nodes = new Nodes(1000);
    nodes.report(heartbeat('old'), 0);
    nodes.report(heartbeat('new'), 900);
    expect(nodes.list(1000).map(({ last }) => last?.node)).toEqual(['new', 'old']);
    expect(nodes.list(1001).map(({ last }) => last?.node)).toEqual(['new']);
    expect(nodes.size).toBe(1);
  });

  it('knows who reports from an address, where that is one', () => {
    const nodes = new Nodes(1000);
    nodes.report(heartbeat('a'), 0, '192.0.2.1');
    nodes.report(heartbeat('b'), 0, '192.0.2.2');
    nodes.report(heartbeat('c'), 500, '192.0.2.2');
    expect(['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((address) => nodes.at(address))).toEqual([
      'a',
      undefined,
      undefined,
    ]);
    nodes.list(1100);
    expect(['192.0.2.1', '192.0.2.2'].map((address) => nodes.at(address))).toEqual([undefined, 'c']);
  });

  it('has bounds', () => {
    const nodes = new Nodes(1000);
    const image = {
      indexDigest: '',
      state: 0,
      objects: 0n,
      objectsHere: 0n,
      bytes: 0n,
      bytesHere: 0n,
      users: 0,
    } as const;
    const invalid = expect.objectContaining({ code: 'invalid-argument' });
    expect(() => nodes.report(heartbeat(''), 0)).toThrow(invalid);
    expect(() => nodes.report(heartbeat('x'.repeat(254)), 0)).toThrow(invalid);
    expect(() => nodes.report({ ...heartbeat('x'), images: Array(1001).fill(image) }, 0)).toThrow(invalid);
    for (let at = 0; at < 10_000; at++) nodes.report(heartbeat(`n${at}`), 0);
    expect(() => nodes.report(heartbeat('more'), 1)).toThrow(expect.objectContaining({ code: 'resource-exhausted' }));
    nodes.report(heartbeat('n5'), 1);
    nodes.report(heartbeat('more'), 1001);
    expect(nodes.list(1001).map(({ last }) => last?.node)).toEqual(['more', 'n5']);
  });
});
