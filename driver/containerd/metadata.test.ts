import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type NewSnapshot, SnapshotMetadata } from './metadata.ts';

function file(): string {
  const folder = mkdtempSync('/tmp/gear-meta-');
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return join(folder, 'containerd.sqlite');
}

const snapshot = (id: number, changes: Partial<NewSnapshot> = {}): NewSnapshot => ({
  ...{ id, name: `s${id}`, parentId: undefined, kind: 'committed', namespace: 'default' },
  ...{ created: 1_700_000_000_123_456_789n, labels: {}, usage: undefined, ordinary: undefined },
  ...changes,
});

describe('the rows of snapshots', () => {
  it('keep everything, nanoseconds too, for the next process', () => {
    const path = file();
    {
      using metadata = SnapshotMetadata.open(path);
      const ordinary = { image: 'host/app:1', reason: 'not known' };
      metadata.transaction(() => {
        metadata.insert(snapshot(1, { labels: { 'a.b/c': 'x', ['__proto__']: 'y' } }));
        metadata.insert(snapshot(7, { parentId: 1, kind: 'active', ordinary }));
        metadata.commit(7, 'top', { created: 5n, labels: { l: '1' }, usage: { size: 2 ** 40, inodes: 3 } });
      });
    }
    using again = SnapshotMetadata.open(path);
    expect(again.get('s1')).toMatchObject({
      created: 1_700_000_000_123_456_789n,
      parent: '',
      labels: { 'a.b/c': 'x' },
    });
    expect(again.get('top')).toEqual({
      ...{
        id: 7,
        name: 'top',
        parentId: 1,
        parent: 's1',
        kind: 'committed',
        namespace: 'default',
        created: 5n,
        updated: 5n,
      },
      ...{
        labels: { l: '1' },
        usage: { size: 2 ** 40, inodes: 3 },
        ordinary: { image: 'host/app:1', reason: 'not known' },
      },
    });
    expect(again.find('s7')).toBeUndefined();
    expect(again.hasChildren(1)).toBe(true);
    expect(again.named('to').map(({ name }) => name)).toEqual(['top']);
    expect(again.lastId()).toBe(7);
  });

  it('are undone together', () => {
    using metadata = SnapshotMetadata.open(file());
    metadata.transaction(() => metadata.insert(snapshot(1)));
    expect(() =>
      metadata.transaction(() => {
        metadata.insert(snapshot(2));
        metadata.insert(snapshot(3, { name: 's1' }));
      }),
    ).toThrow(expect.objectContaining({ code: 'already-exists' }));
    expect([...metadata.all()].map(({ id }) => id)).toEqual([1]);
    expect(() => metadata.get('s2')).toThrow(expect.objectContaining({ code: 'not-found' }));
  });

  it('never give an id twice, and come in pages', () => {
    using metadata = SnapshotMetadata.open(file());
    for (let id = 1; id <= 5; id++) metadata.transaction(() => metadata.insert(snapshot(id)));
    metadata.remove(5);
    expect(metadata.lastId()).toBe(5);
    expect(metadata.page(1, 2).map(({ id }) => id)).toEqual([2, 3]);
    expect(metadata.page(3, 10).map(({ id }) => id)).toEqual([4]);
  });

  it('are not read from something else', () => {
    const path = file();
    writeFileSync(path, 'not a database, but long enough to be looked at as one'.repeat(100));
    expect(() => SnapshotMetadata.open(path)).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });
});
