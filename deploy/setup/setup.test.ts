import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { projectRoot } from '../sandbox/gear.ts';
import { containerdConfig } from './containerd-config.ts';
import { dockerConfig } from './docker-config.ts';

describe("dockerd's configuration", () => {
  it.each(['graphdriver', 'containerd'] as const)(
    'of kind %s keeps what is there, and is the same when made again',
    (kind) => {
      const made = dockerConfig('{"data-root": "/x", "features": {"buildkit": true}}', kind);
      expect(JSON.parse(made)).toMatchObject({
        'data-root': '/x',
        'storage-driver': 'gear',
        features: { buildkit: true },
      });
      expect(dockerConfig(made, kind)).toBe(made);
    },
  );

  it('is the one of deploy/containerd for newer versions', async () => {
    const documented = await readFile(join(projectRoot, 'deploy/containerd/docker-daemon.json'), 'utf8');
    expect(JSON.parse(dockerConfig('', 'containerd'))).toEqual(JSON.parse(documented));
  });

  it('is left alone where it says all of it', () => {
    const text = '{ "experimental":true,\n"storage-driver": "gear" }';
    expect(dockerConfig(text, 'graphdriver')).toBe(text);
  });

  it.each(['[]', 'null', '{', '"x"'])('%s is refused', (text) => {
    expect(() => dockerConfig(text, 'graphdriver')).toThrow();
  });
});

/** The lines that say something, in order; how a table's name is quoted does not matter. */
const said = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trim().replaceAll("'", '"'))
    .filter((line) => line !== '' && !line.startsWith('#'));

describe("containerd's configuration", () => {
  const wish = { major: 1, root: '/var/lib/gear', kubernetes: true };

  test.each([1, 2])('version %i is what deploy/containerd documents', async (major) => {
    const documented = await readFile(join(projectRoot, `deploy/containerd/containerd-${major}.toml`), 'utf8');
    // The last part is for clients that pull through the transfer service.
    const wanted = said(documented.split('[[')[0] as string);
    expect(said(containerdConfig('', { ...wish, major })).sort()).toEqual(wanted.sort());
  });

  test('keeps what is there, changes what says otherwise, and is the same when made again', () => {
    const text = [
      '# ours',
      'version = 2',
      '[plugins]',
      '  [plugins."io.containerd.grpc.v1.cri".containerd]',
      '    snapshotter = "overlayfs" # the usual one',
      '    discard_unpacked_layers = true',
      '  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]',
      '    snapshotter = "mine"',
      '',
    ].join('\n');
    const made = containerdConfig(text, wish);
    expect(made).toBe(
      [
        '# ours',
        'version = 2',
        '[plugins]',
        '  [plugins."io.containerd.grpc.v1.cri".containerd]',
        '  disable_snapshot_annotations = false',
        '    snapshotter = "gear"',
        '    discard_unpacked_layers = true',
        '  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]',
        '    snapshotter = "mine"',
        '',
        '[proxy_plugins.gear]',
        'type = "snapshot"',
        'address = "/run/gear/containerd.sock"',
        '',
      ].join('\n'),
    );
    expect(containerdConfig(made, wish)).toBe(made);
    const plain = containerdConfig(text, { ...wish, kubernetes: false });
    expect(plain.startsWith(text)).toBe(true);
    expect(plain).toContain('[proxy_plugins.gear]');
  });

  test.each(['[grpc]\naddress = "/x"\n', 'version = 1\n'])('%j is refused', (text) => {
    expect(() => containerdConfig(text, wish)).toThrow('has version 1');
  });
});
