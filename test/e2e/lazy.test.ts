import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bigContent, CHUNK, quickImage, smallContent } from '../images/quick.ts';
import { archive, file } from '../images/tar-bytes.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster } from '../support/cluster.ts';

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('what a container fetches', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let node: GearNode;
  let image: PublishedImage;
  let id: string;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    image = await cluster.publish('quick:1', quickImage());
    node = await cluster.node();
  });
  afterAll(() => stack.disposeAsync());

  /** Runs a command in the container; gives its output and what the node fetched for it. */
  const fetches = async (script: string): Promise<{ output: string; objects: number; bytes: number }> => {
    const before = await node.fetched();
    const output = await node.docker.run(['exec', id, 'sh', '-c', script]);
    const after = await node.fetched();
    return { output, objects: after.objects - before.objects, bytes: after.bytes - before.bytes };
  };

  it('nothing when it is pulled and created', async () => {
    await node.docker.run(['pull', image.gear]);
    await node.docker.run(['rm', await node.docker.run(['create', image.gear])]);
    expect(await node.fetched()).toEqual({ objects: 0, bytes: 0 });
    expect((await node.status()).images).toMatchObject([{ state: 'lazy', touchedObjects: 0 }]);
  });

  it('little for its program', async () => {
    id = await node.docker.detached(image.gear, ['sleep', '100000']);
    // The program, and what the engine looks a user up in.
    expect((await node.fetched()).objects).toBeLessThanOrEqual(3);
    expect(await fetches('echo started')).toMatchObject({ objects: 0 });
    expect(await fetches('cat /etc/marker')).toMatchObject({ objects: 1 });
    // All of the program, so that what follows counts nothing of it.
    await fetches('cat /bin/busybox | wc -c');
  });

  it.each([
    ['a walk', 'find / -xdev | wc -l'],
    ['a long listing', 'ls -lR /data | wc -l'],
    ['stat', 'stat /data/big /data/small/*'],
    ['du', 'du -s /data'],
    ['chmod of a file', 'chmod 600 /data/small/0001'],
    ['chmod of everything', 'chmod -R g+w /data/small'],
    ['chown of everything', 'chown -R 7:8 /data/small'],
    ['chown of a big file', 'chown 55:66 /data/big'],
    ['rename of a file', 'mv /data/small/0002 /data/small/renamed'],
    ['rename of a folder', 'mv /data/tree /data/moved'],
    ['a hard link', 'ln /data/small/0003 /data/small/linked'],
    ['touch', 'touch -d "2020-02-02 02:02:02" /data/small/0004'],
    ['removal', 'rm /data/small/0005; mkdir /data/small/0005'],
  ])('nothing for %s', async (_, script) => {
    expect(await fetches(script)).toMatchObject({ objects: 0, bytes: 0 });
  });

  it('only what is read of a big file', async () => {
    const { output, bytes } = await fetches(
      `dd if=/data/big bs=1 skip=${10 * CHUNK + 5} count=3 2>/dev/null | od -An -tx1`,
    );
    expect(output.replaceAll(/\s/g, '')).toBe(bigContent().toString('hex', 10 * CHUNK + 5, 10 * CHUNK + 8));
    expect(bytes).toBeGreaterThan(0);
    expect(bytes).toBeLessThanOrEqual(2 * CHUNK);
  });

  it('each byte once', async () => {
    const first = await fetches('sha256sum /data/big | cut -c1-64');
    expect(first.output).toBe(sha256(bigContent()));
    expect(first.bytes).toBeLessThan(bigContent().length);
    expect((await fetches('cat /data/big /data/big-again | wc -c')).bytes).toBe(0);
    const other = await node.docker.once(image.gear, ['sha256sum', '/data/big', '/data/big-again']);
    expect(other.match(new RegExp(sha256(bigContent()), 'g'))).toHaveLength(2);
    expect((await fetches('true')).bytes).toBe(0);
  });

  it('the right bytes when what was changed is committed', async () => {
    await node.docker.run(['commit', id, 'changed:1']);
    const script = [
      'cat small/0001 small/renamed small/linked small/0004 moved/one/leaf',
      'stat -c "%a %u:%g" small/0001 big moved/one; stat -c %Y small/0004; stat -c %F small/0005',
      'sha256sum big | cut -c1-64',
    ].join('; ');
    const output = await node.docker.once('changed:1', ['sh', '-c', script]);
    expect(output).toBe(
      [
        `${smallContent(1)}${smallContent(2)}${smallContent(3)}${smallContent(4)}leaf of one`,
        '620 7:8\n640 55:66\n750 0:0',
        '1580608922\ndirectory',
        sha256(bigContent()),
      ].join('\n'),
    );
  });

  it('the whole file for a write into it, and then the right bytes', async () => {
    const changed = bigContent();
    changed.write('written', 5 * CHUNK);
    const script = `printf written | dd of=/data/big bs=1 seek=${5 * CHUNK} conv=notrunc 2>/dev/null; sha256sum /data/big | cut -c1-64`;
    expect((await fetches(script)).output).toBe(sha256(changed));
  });

  it('nothing for what another image brought', async () => {
    const other = quickImage('other');
    const own = archive(file('data/own', 'of the other image\n'));
    const second = await cluster.publish('other:1', { ...other, layers: [...other.layers, { tar: own }] });
    await node.docker.run(['pull', second.gear]);
    const before = await node.fetched();
    expect(await node.docker.once(second.gear, ['cat', '/data/small/0001', '/data/own'])).toBe(
      `${smallContent(1)}of the other image`,
    );
    expect((await node.fetched()).objects - before.objects).toBe(1);
    const { images } = await node.status();
    const status = images.find(({ source }) => second.written.manifestDigest.endsWith(source));
    expect(status).toMatchObject({ fromRemote: 1 });
    expect(status?.fromPublic).toBeGreaterThanOrEqual(2);
  });

  it('everything at last, and then the image is complete', async () => {
    await node.docker.once(image.gear, ['sh', '-c', 'find / -xdev -type f -exec cat {} + | wc -c']);
    const found = (await node.status()).images.find(({ state }) => state === 'complete');
    expect(found).toMatchObject({ errors: 0 });
    expect(found?.objectsHere).toBe(found?.objects);
  });
});
