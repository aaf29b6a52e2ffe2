import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import type { DockerClient } from '../../deploy/sandbox/docker.ts';
import { bigContent, quickImage, SMALL_FILES, smallContent } from '../images/quick.ts';
import { type Cluster, type GearNode, type PublishedImage, startCluster } from '../support/cluster.ts';
import { fileDigest } from '../support/tree.ts';

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('docker on a node with Gear', () => {
  const stack = new AsyncDisposableStack();
  let cluster: Cluster;
  let node: GearNode;
  let docker: DockerClient;
  let image: PublishedImage;

  beforeAll(async () => {
    cluster = stack.use(await startCluster());
    image = await cluster.publish('quick:1', quickImage());
    node = await cluster.node();
    docker = node.docker;
    await docker.run(['pull', image.gear]);
  });
  afterAll(() => stack.disposeAsync());

  it('is the storage driver that docker info names', async () => {
    expect(await docker.run(['info', '--format', '{{.Driver}}'])).toBe(node.driver.plugin);
  });

  it('runs a container, and reads right bytes', async () => {
    expect(await docker.once(image.gear, ['cat', '/etc/marker'])).toBe('quick');
    expect(await docker.once(image.gear, ['cat', '/data/small/0123'])).toBe(smallContent(123).trimEnd());
    const digest = await docker.once(image.gear, ['sha256sum', '/data/big']);
    expect(digest.split(' ')[0]).toBe(sha256(bigContent()));
  });

  it('keeps the configuration of the original', async () => {
    const { Config } = await docker.inspect(image.gear);
    expect(Config).toMatchObject(quickImage().config ?? {});
    expect(await docker.once(image.gear, ['sh', '-c', 'pwd; echo "$GREETING"'])).toBe('/data\na=b=c');
  });

  it('hides what a later layer deleted', async () => {
    expect(await docker.once(image.gear, ['ls', '/etc'])).not.toContain('removed');
    expect(await docker.once(image.gear, ['ls', '/data/tree/two'])).toBe('new');
    expect((await docker.once(image.gear, ['ls', '/data/small'])).split('\n')).toHaveLength(SMALL_FILES);
  });

  it('names its folders in inspect', async () => {
    const id = await docker.run(['create', image.gear]);
    const { Name, Data } = (await docker.inspect(id)).GraphDriver;
    expect(Name).toBe(node.driver.plugin);
    expect(Object.keys(Data ?? {}).sort()).toEqual(['LowerDir', 'MergedDir', 'UpperDir', 'WorkDir']);
    await docker.run(['rm', id]);
  });

  it('execs, stops and starts a container, which keeps what it wrote', async () => {
    const id = await docker.detached(image.gear, ['sleep', '1000']);
    await docker.run([
      'exec',
      id,
      'sh',
      '-c',
      'echo written > /data/written; rm /data/small/0005; echo more >> /etc/marker',
    ]);
    await docker.run(['stop', '--time=0', id]);
    await docker.run(['start', id]);
    expect(await docker.run(['exec', id, 'cat', '/data/written', '/etc/marker'])).toBe('written\nquick\nmore');
    expect((await docker.attempt(['exec', id, 'cat', '/data/small/0005'])).exitCode).not.toBe(0);
    expect((await docker.run(['diff', id])).split('\n').sort()).toEqual([
      'A /data/written',
      'C /data',
      'C /data/small',
      'C /etc',
      'C /etc/marker',
      'D /data/small/0005',
    ]);
    await docker.run(['rm', '--force', id]);
    expect(await docker.once(image.gear, ['cat', '/etc/marker'])).toBe('quick');
  });

  it('copies out of and into a container, running or not', async () => {
    await using folder = await temporaryFolder();
    const id = await docker.run(['create', image.gear, 'cat', '/data/copied']);
    await docker.run(['cp', `${id}:/data/big`, join(folder.path, 'big')]);
    expect(await fileDigest(join(folder.path, 'big'))).toBe(sha256(bigContent()));
    await docker.run(['cp', `${id}:/data/small`, join(folder.path, 'small')]);
    expect(await readFile(join(folder.path, 'small/0042'), 'utf8')).toBe(smallContent(42));
    await writeFile(join(folder.path, 'copied'), 'into the container');
    await docker.run(['cp', join(folder.path, 'copied'), `${id}:/data/copied`]);
    expect(await docker.run(['start', '--attach', id])).toBe('into the container');
    await docker.run(['rm', id]);
  });

  it('commits a container, and runs what it committed', async () => {
    const id = await docker.detached(image.gear, ['sleep', '1000']);
    await docker.run([
      ...['exec', id, 'sh', '-c'],
      'cp /data/small/0007 /data/copy; chmod 600 /data/small/0008; mv /data/tree /data/moved; rm /data/empty; ln /data/small/0009 /data/hard',
    ]);
    await docker.run(['commit', id, 'committed:1']);
    await docker.run(['rm', '--force', id]);
    const script = 'cat copy small/0008 hard moved/one/leaf; stat -c %a small/0008; ls; stat -c %h hard';
    const output = await docker.once('committed:1', ['sh', '-c', script]);
    expect(output).toBe(
      [
        `${smallContent(7) + smallContent(8) + smallContent(9)}leaf of one\n600`,
        'big\nbig-again\ncopy\nhard\nlink\nmoved\nsmall',
        '2',
      ].join('\n'),
    );
    expect((await docker.inspect('committed:1')).RootFS.Layers).toHaveLength(2);
    await docker.run(['rmi', 'committed:1']);
  });

  it('builds FROM a Gear image', async () => {
    await using folder = await temporaryFolder();
    await mkdir(join(folder.path, 'context'));
    await writeFile(join(folder.path, 'context/added'), 'added\n');
    await writeFile(
      join(folder.path, 'context/Dockerfile'),
      [
        `FROM ${image.gear}`,
        'COPY added /data/added',
        'RUN cat /data/small/0011 > /data/from-lazy && rm /data/big-again',
        'RUN echo second >> /data/added && mv /data/tree/one /data/one',
        'ENV BUILT=yes',
        'CMD ["sh", "-c", "cat /data/added /data/from-lazy /data/one/leaf; echo $BUILT"]',
      ].join('\n'),
    );
    await docker.run(['build', '--network=none', '--tag=built:1', join(folder.path, 'context')]);
    expect(await docker.run(['run', '--rm', '--network=none', 'built:1'])).toBe(
      `added\nsecond\n${smallContent(11)}leaf of one\nyes`,
    );
    const names = await docker.once('built:1', ['ls', '/data', '/data/tree']);
    expect(names.split('\n')).toEqual([
      '/data:',
      'added',
      'big',
      'empty',
      'from-lazy',
      'link',
      'one',
      'small',
      'tree',
      '',
      '/data/tree:',
      'three',
      'two',
    ]);
    await docker.run(['rmi', 'built:1']);
  });

  it('runs ordinary images beside Gear images', async () => {
    await docker.run(['pull', image.plain]);
    expect(await docker.once(image.plain, ['cat', '/etc/marker', '/data/tree/two/new'])).toBe(
      'quick\nthe only one here',
    );
    const id = await docker.run([
      'run',
      '--detach',
      '--network=none',
      image.plain,
      'sh',
      '-c',
      'rm -r /data/tree; sleep 1000',
    ]);
    await docker.run(['exec', id, 'sh', '-c', 'while test -e /data/tree; do sleep 0.1; done']);
    expect(await docker.run(['diff', id])).toBe('C /data\nD /data/tree');
    await docker.run(['commit', id, 'ordinary:1']);
    expect(await docker.once('ordinary:1', ['ls', '/data'])).not.toContain('tree');
    await docker.run(['rm', '--force', id]);
    await docker.run(['rmi', 'ordinary:1', image.plain]);
  });

  it('saves an image, and loads it again under the same id', async () => {
    await using folder = await temporaryFolder();
    const id = await docker.detached(image.gear, ['sh', '-c', 'echo child > /data/child; sleep 1000']);
    await docker.run(['exec', id, 'sh', '-c', 'while ! test -s /data/child; do sleep 0.1; done']);
    await docker.run(['commit', id, 'child:1']);
    await docker.run(['rm', '--force', id]);
    const before = await docker.inspect('child:1');
    const file = join(folder.path, 'child.tar');
    await docker.run(['save', '--output', file, 'child:1']);
    await docker.run(['rmi', 'child:1']);
    await docker.run(['load', '--input', file]);
    const after = await docker.inspect('child:1');
    expect([after.Id, after.RootFS.Layers]).toEqual([before.Id, before.RootFS.Layers]);
    expect(await docker.once('child:1', ['cat', '/data/child', '/data/small/0020'])).toBe(
      `child\n${smallContent(20)}`.trimEnd(),
    );
    await docker.run(['rmi', 'child:1']);
  });

  it('serves many containers of one image, each with changes of its own', async () => {
    const ids = await Promise.all(
      [1, 2, 3, 4, 5].map((n) => docker.detached(image.gear, ['sh', '-c', `echo ${n} > /etc/marker; sleep 1000`])),
    );
    const markers = await Promise.all(
      ids.map((id) =>
        docker.run([
          'exec',
          id,
          'sh',
          '-c',
          'while test $(cat /etc/marker) = quick; do sleep 0.1; done; cat /etc/marker',
        ]),
      ),
    );
    expect(markers).toEqual(['1', '2', '3', '4', '5']);
    await docker.run(['rm', '--force', ...ids]);
  });

  it('removes what is unused with rmi and system prune, and nothing else', async () => {
    const id = await docker.detached(image.gear, ['sleep', '1000']);
    const dangling = await docker.run(['commit', id]);
    await docker.run(['system', 'prune', '--force', '--volumes']);
    expect((await docker.attempt(['inspect', dangling])).exitCode).not.toBe(0);
    expect(await docker.run(['exec', id, 'cat', '/data/small/0200'])).toBe(smallContent(200).trimEnd());
    await docker.run(['rm', '--force', id]);
    await docker.run(['rmi', image.gear]);
    expect((await docker.attempt(['inspect', image.gear])).exitCode).not.toBe(0);
    await docker.run(['system', 'prune', '--force', '--all']);
    expect(await docker.run(['images', '--all', '--quiet'])).toBe('');
    const { images, homes } = await node.status();
    expect(images.filter(({ mounts, users }) => mounts > 0 || users > 0)).toEqual([]);
    expect(homes.map(({ layers, mounts }) => [layers, mounts])).toEqual(homes.map(() => [0, 0]));
    await docker.run(['pull', image.gear]);
    expect(await docker.once(image.gear, ['cat', '/etc/marker'])).toBe('quick');
  });
});
