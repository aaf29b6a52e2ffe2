import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FileFlusher, FilesystemFlusher } from './flush.ts';

async function folder(): Promise<string> {
  const path = await mkdtemp('/tmp/gear-');
  onTestFinished(async () => await rm(path, { recursive: true, force: true }));
  return path;
}

describe('FilesystemFlusher', () => {
  it('lets all who ask during a flush share the next one', async () => {
    const gates: PromiseWithResolvers<void>[] = [];
    using flusher = new FilesystemFlusher(await folder(), () => {
      const gate = Promise.withResolvers<void>();
      gates.push(gate);
      return gate.promise;
    });
    const done: string[] = [];
    const ask = async (name: string) => {
      await flusher.flush();
      done.push(name);
    };
    const asked = [ask('a'), ask('b'), ask('c')];
    expect(gates.length).toBe(1);
    gates[0]?.resolve();
    await asked[0];
    await new Promise(setImmediate);
    expect(done).toEqual(['a']);
    expect(gates.length).toBe(2);
    const late = ask('d');
    gates[1]?.resolve();
    await Promise.all(asked);
    await new Promise(setImmediate);
    expect([done, gates.length]).toEqual([['a', 'b', 'c'], 3]);
    gates[2]?.resolve();
    await late;
  });

  it('tells of a failed flush all who waited for it, and nobody else', async () => {
    let fails = true;
    using flusher = new FilesystemFlusher(await folder(), async () => {
      if (fails) throw new Error('EIO');
    });
    const [first, second] = await Promise.allSettled([flusher.flush(), flusher.flush()]);
    expect([first?.status, second?.status]).toEqual(['rejected', 'rejected']);
    fails = false;
    await flusher.flush();
  });
});

describe('FileFlusher', () => {
  it('flushes what changed, and does not mind what is gone', async () => {
    const root = await folder();
    await writeFile(join(root, 'a'), 'x');
    using flusher = new FileFlusher();
    flusher.changed(join(root, 'a'));
    flusher.changed(join(root, 'gone'));
    flusher.changed(root);
    await flusher.flush();
    flusher.changed(join(root, 'a/b'));
    await expect(flusher.flush()).rejects.toThrow('ENOTDIR');
  });
});
