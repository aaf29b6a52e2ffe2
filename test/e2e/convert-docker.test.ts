import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DockerClient } from '../../deploy/sandbox/docker.ts';
import { type Dockerd, startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { pushImage, quickImage } from '../images/quick.ts';
import { type ConvertBench, type Converted, startConvertBench } from '../support/convert.ts';

// An ordinary dockerd: to it a Gear image is an image of one small layer.
describe('gear convert and export with a Docker daemon', () => {
  const stack = new AsyncDisposableStack();
  let bench: ConvertBench;
  let dockerd: Dockerd;
  let docker: DockerClient;

  beforeAll(async () => {
    bench = stack.use(await startConvertBench());
    dockerd = stack.use(await startDockerd());
    docker = dockerd.docker;
    await pushImage(quickImage(), `docker://${bench.registry.host}/team/quick:1`);
    await docker.run(['pull', '--quiet', `${bench.registry.host}/team/quick:1`]);
    await docker.run(['tag', `${bench.registry.host}/team/quick:1`, 'quick:1']);
  });
  afterAll(() => stack.disposeAsync());

  const daemon = () => ['--docker-host', `unix://${dockerd.socket}`];
  const convert = async (...args: readonly string[]): Promise<Converted> => await bench.convert(...daemon(), ...args);
  const exported = async (source: string, destination: string) => {
    const { exitCode, stderr } = await bench.run('export', ...daemon(), source, destination);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  };

  it('puts the Gear image beside its source, which the daemon takes for an image like any other', async () => {
    const result = await convert('docker-daemon:quick:1');
    expect(result).toMatchObject({ source: 'docker-daemon:quick:1', destination: 'docker-daemon:quick-gear:1' });
    const [before, after] = [await docker.inspect('quick:1'), await docker.inspect('quick-gear:1')];
    expect(after.Config).toEqual(before.Config);
    expect(await docker.run(['history', '--no-trunc', '--format', '{{.Comment}}', 'quick-gear:1'])).toBe('gear.v1');
  });

  it('finds at once that nothing has changed, without making the daemon save the image', async () => {
    await convert('docker-daemon:quick:1');
    const again = await convert('docker-daemon:quick:1');
    expect(again.unchanged).toBe(true);
    expect(again.seconds).toBeLessThan(1);
    await docker.run(['rmi', 'quick-gear:1']);
    expect(await convert('docker-daemon:quick:1')).toMatchObject({ unchanged: false });
    await docker.run(['inspect', 'quick-gear:1']);
  });

  it('makes the same index of an image in the daemon and in the registry', async () => {
    const fromDaemon = await convert('docker-daemon:quick:1');
    const fromRegistry = await bench.convert(`${bench.registry.host}/team/quick:1`);
    expect(fromDaemon.indexDigest).toBe(fromRegistry.indexDigest);
  });

  it('lets docker pull the Gear image from a registry', async () => {
    const { gearDigest } = await bench.convert(`${bench.registry.host}/team/quick:1`);
    const name = `${bench.registry.host}/team/quick-gear:1`;
    expect(await docker.run(['pull', name])).toContain(gearDigest);
    expect((await docker.inspect(name)).Config).toEqual((await docker.inspect('quick:1')).Config);
  });

  it('exports an image that was built on a Gear image, which then runs', async () => {
    await convert('docker-daemon:quick:1');
    const id = await docker.run(['create', 'quick-gear:1', '/bin/sh']);
    const file = join(bench.folder, 'file');
    await writeFile(file, 'of the child\n');
    await docker.run(['cp', file, `${id}:/etc-of-child`]);
    await docker.run(['commit', id, 'child:1']);
    await docker.run(['rm', id]);

    await exported('docker-daemon:child:1', 'docker-daemon:child-plain:1');
    expect(await docker.once('child-plain:1', ['cat', '/etc-of-child', '/etc/marker'])).toBe('of the child\nquick');
    // Folders that no tar names have the time of their extraction.
    const stat = "find /data /bin /etc/passwd ! -type d -exec stat -c '%n %F %a %u %g %s %Y %h' {} + | sort";
    const listing = ['sh', '-c', stat];
    expect(await docker.once('child-plain:1', listing)).toBe(await docker.once('quick:1', listing));
    const [child, plain] = [await docker.inspect('child:1'), await docker.inspect('child-plain:1')];
    expect(plain.Config).toEqual(child.Config);

    await exported('docker-daemon:child:1', `docker://${bench.registry.host}/team/child:1`);
    const archive = join(bench.folder, 'child.tar');
    await exported('docker-daemon:child:1', `docker-archive:${archive}:child-loaded:1`);
    await docker.run(['load', '--quiet', '--input', archive]);
    expect(await docker.once('child-loaded:1', ['cat', '/etc-of-child'])).toBe('of the child');
    await rm(archive);
  });

  it('says so when the daemon does not have the image', async () => {
    const outcome = await bench.run('convert', ...daemon(), 'docker-daemon:none:1');
    expect(outcome).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/docker-daemon:none:1.*none:1/) });
    expect(await bench.leftovers()).toEqual([]);
  });

  it('finds the daemon by DOCKER_HOST', async () => {
    const folder = join(bench.folder, 'by-environment');
    await mkdir(folder);
    const { reference } = await writeOciLayout(join(folder, 'layout'), quickImage('by-environment'));
    const before = process.env['DOCKER_HOST'];
    process.env['DOCKER_HOST'] = `unix://${dockerd.socket}`;
    try {
      await bench.convert(reference, 'docker-daemon:by-environment:1');
    } finally {
      if (before === undefined) delete process.env['DOCKER_HOST'];
      else process.env['DOCKER_HOST'] = before;
    }
    await docker.run(['inspect', 'by-environment:1']);
  });
});
