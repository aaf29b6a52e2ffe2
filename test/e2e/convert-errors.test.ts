import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '#core/grpc/client.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { gear } from '../../deploy/sandbox/gear.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { freePort } from '../../deploy/sandbox/ports.ts';
import { startRegistry } from '../../deploy/sandbox/registry.ts';
import { copyImage } from '../../deploy/sandbox/skopeo.ts';
import { pushImage, quickImage } from '../images/quick.ts';
import { archive, file, hardLink, noise, symlink } from '../images/tar-bytes.ts';
import { type ConvertBench, startConvertBench } from '../support/convert.ts';

const LAYER = archive(file('a', 'text'), file('b', noise(300_000, 1)));
const sha256 = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');

interface CraftedLayer {
  /** The blob as it lies in the layout. */
  readonly blob: Buffer;
  /** Of which the manifest gives the digest; default the blob itself. */
  readonly named?: Buffer;
  /** Of which the config gives the diff id. */
  readonly tar: Buffer;
  readonly mediaType?: string;
}

/** Writes a layout whose manifest and config say what they are told, true or not. */
async function craft(
  folder: string,
  layers: readonly CraftedLayer[],
  more: { config?: object; manifest?: object } = {},
): Promise<string> {
  const { reference } = await writeOciLayout(folder, { layers: [] });
  const put = async (bytes: Buffer | string, named: Buffer | string = bytes) => {
    await writeFile(join(folder, 'blobs/sha256', sha256(named)), bytes);
    return { digest: `sha256:${sha256(named)}`, size: Buffer.byteLength(named) };
  };
  const descriptors: object[] = [];
  for (const { blob, named = blob, mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip' } of layers) {
    descriptors.push({ mediaType, ...(await put(blob, named)) });
  }
  const diffIds = layers.map(({ tar }) => `sha256:${sha256(tar)}`);
  const config = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: diffIds }, ...more.config };
  const written = await put(JSON.stringify(config));
  const manifest = {
    schemaVersion: 2,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...written },
    layers: descriptors,
    ...more.manifest,
  };
  const entry = { mediaType: 'application/vnd.oci.image.manifest.v1+json', ...(await put(JSON.stringify(manifest))) };
  const named = { ...entry, annotations: { 'org.opencontainers.image.ref.name': 'latest' } };
  await writeFile(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
  return reference;
}

describe('gear convert refuses', () => {
  const stack = new AsyncDisposableStack();
  let bench: ConvertBench;
  let host: string;
  let number = 0;
  const folder = () => join(bench.folder, `layout-${number++}`);
  const layout = async (...args: Parameters<typeof craft> extends [string, ...infer R] ? R : never) =>
    await craft(folder(), ...args);

  beforeAll(async () => {
    bench = stack.use(await startConvertBench());
    host = bench.registry.host;
  });
  afterAll(() => stack.disposeAsync());

  /** Expects the conversion to fail with this message, and to leave nothing behind. */
  async function refused(args: readonly string[], message: RegExp, exitCode = 1): Promise<string> {
    const outcome = await bench.run('convert', ...args);
    expect(outcome.stderr).toMatch(message);
    expect(outcome.exitCode).toBe(exitCode);
    // One line, no stack trace.
    expect(outcome.stderr).not.toMatch(/^\s+at /m);
    expect(await bench.leftovers()).toEqual([]);
    expect(await readdir(join(bench.manager.root, 'images'))).toEqual([]);
    return outcome.stderr;
  }

  it.each<[string, Omit<CraftedLayer, 'tar'>]>([
    ['a truncated gzip layer', { blob: gzipSync(LAYER).subarray(0, -5000) }],
    ['a truncated plain layer', { blob: LAYER.subarray(0, -5000) }],
    ['a layer in place of another', { blob: gzipSync(archive(file('a', 'other'))) }],
    ['a layer with damaged bytes', { blob: Buffer.from(gzipSync(LAYER)).fill(7, 500, 600), named: gzipSync(LAYER) }],
    ['a plain layer with damaged bytes', { blob: Buffer.from(LAYER).fill(7, 0, 50), named: LAYER }],
    ['a layer that is cut off', { blob: gzipSync(LAYER).subarray(0, 100_000), named: gzipSync(LAYER) }],
    ['a layer that is no tar', { blob: gzipSync('this is no tar') }],
  ])('%s, naming it', async (_name, layer) => {
    const good = { blob: gzipSync(archive(file('good', 'good'))), tar: archive(file('good', 'good')) };
    const reference = await layout([good, { ...layer, tar: LAYER }]);
    const digest = sha256(layer.named ?? layer.blob);
    await refused([reference], new RegExp(`layer 2 of 2 \\(sha256:${digest}\\): `));
  });

  it('a damaged layer that comes from a registry', async () => {
    const written = await pushImage(
      { layers: [{ tar: LAYER, compression: 'none' }] },
      `docker://${host}/team/damaged:1`,
    );
    const digest = written.layers[0]!.digest.slice(7);
    const path = join(
      bench.registry.folder,
      'data/docker/registry/v2/blobs/sha256',
      digest.slice(0, 2),
      digest,
      'data',
    );
    const bytes = await readFile(path);
    await writeFile(path, bytes.fill(0x41, 2000, 3000));
    await refused([`${host}/team/damaged:1`], new RegExp(digest));
  });

  it.each<[string, CraftedLayer, RegExp]>([
    [
      'a hard link out of the image',
      { blob: Buffer.alloc(0), tar: archive(hardLink('x', '../../etc/passwd')) },
      /layer 1 of 1.*"\.\."/,
    ],
    ['a path out of the image', { blob: Buffer.alloc(0), tar: archive(file('../x', 'y')) }, /layer 1 of 1.*"\.\."/],
    ['an empty link', { blob: Buffer.alloc(0), tar: archive(symlink('x', '')) }, /layer 1 of 1.*target/],
  ])('%s', async (_name, { tar }, message) => {
    await refused([await layout([{ blob: gzipSync(tar), tar }])], message);
  });

  it('what is no ordinary image, by name', async () => {
    const layer = { blob: gzipSync(LAYER), tar: LAYER };
    const artifact = {
      config: { mediaType: 'application/vnd.cncf.helm.config.v1+json', digest: `sha256:${sha256('{}')}`, size: 2 },
    };
    await refused([await layout([layer], { manifest: artifact })], /artifact of type "application\/vnd\.cncf\.helm/);
    const foreign = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip';
    await refused([await layout([{ ...layer, mediaType: foreign }])], /layer 1 of 1 .*foreign layer/);
    await refused(
      [await layout([{ ...layer, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted' }])],
      /encrypted/,
    );
    await refused([await layout([layer], { config: { os: 'windows' } })], /windows\/amd64/);
    await refused([await layout([{ blob: Buffer.from('BZh91AY'), tar: LAYER }])], /bzip2/);
  });

  it('a config that does not fit', async () => {
    const layer = { blob: gzipSync(LAYER), tar: LAYER };
    await refused(
      [await layout([layer], { config: { rootfs: { type: 'layers', diff_ids: [] } } })],
      /has 1 layers, its config 0/,
    );
    await refused([await layout([layer], { config: { rootfs: undefined } })], /no rootfs/);
  });

  it('references to nothing', async () => {
    await refused([`${host}/team/none:1`], /team\/none:1.*(unknown|not found)/);
    await pushImage(quickImage(), `docker://${host}/team/quick:1`);
    await refused([`${host}/team/quick:none`], /quick:none.*unknown/);
    await refused([`127.0.0.1:${await freePort()}/team/quick:1`], /connection refused/);
    await refused(['oci:/nonexistent:latest'], /no such file/);
    await refused([(await layout([])).replace(':latest', ':none')], /none/);
    await refused(['docker-archive:/nonexistent.tar:a:1', `${host}/team/x:1`], /no such file/);
    await refused(['--docker-host', '/nonexistent.sock', 'docker-daemon:a:1'], /unix:\/\/\/nonexistent\.sock/);
  });

  it('references that are none, with the exit code of a usage error', async () => {
    await refused(['containers-storage:x'], /transport "containers-storage" is not supported/, 2);
    await refused(['docker://user:secret@host/x:1'], /image reference/, 2);
    await refused([`${host}/Upper/case`], /lower-case/, 2);
    await refused(['--platform', 'linux', `${host}/team/quick:1`], /os\/architecture/, 2);
    await refused([`${host}/team/quick:1`, `${host}/team/quick:1`], /replace its source/, 2);
    await refused([`${host}/team/quick:1`, 'docker-archive:/tmp/x.tar'], /docker:\/\/, docker-daemon: or oci:/, 2);
  });

  it('files of the manager, if a client names them', async () => {
    using connection = connect(bench.manager.address);
    const source = await layout([{ blob: gzipSync(LAYER), tar: LAYER }]);
    const request = { source, destination: `${host}/team/x:1`, platform: undefined, force: false, noPush: false };
    const call = Array.fromAsync(connection.serverStream(ImagesService.convert, request));
    await expect(call).rejects.toThrow(expect.objectContaining({ code: 'permission-denied' }));
  });

  it('a destination that does not take it, keeping nothing', async () => {
    const reference = await layout([{ blob: gzipSync(LAYER), tar: LAYER }]);
    await refused([reference, `127.0.0.1:${await freePort()}/team/x:1`], /connection refused/);
    await refused([reference, 'oci:/proc/nowhere:latest'], /nowhere/);
  });

  it('a manager that is none, or not there', async () => {
    const reference = await layout([{ blob: gzipSync(LAYER), tar: LAYER }]);
    for (const address of [`127.0.0.1:${await freePort()}`, host]) {
      const outcome = await gear([
        'convert',
        '--manager',
        address,
        '--scratch',
        join(bench.folder, 'scratch'),
        reference,
      ]);
      expect(outcome.exitCode).toBe(1);
      expect(outcome.stderr).toContain(address);
      expect(await bench.leftovers()).toEqual([]);
    }
  });

  it('a registry that wants a password, until it gets it; and never shows it', async () => {
    const login = { user: 'somebody', password: 'the-password' };
    await using registry = await startRegistry({ login });
    const { reference } = await writeOciLayout(folder(), quickImage('private'));
    await copyImage(reference, `docker://${registry.host}/team/private:1`, { login });
    const source = `${registry.host}/team/private:1`;
    const options = ['--local', '--insecure-registry', registry.host];
    await refused([...options, source], /unauthorized.*log in with|authentication required.*log in with/);

    const auth = Buffer.from(`${login.user}:${login.password}`).toString('base64');
    const authfile = join(bench.folder, 'auth.json');
    await writeFile(authfile, JSON.stringify({ auths: { [registry.host]: { auth } } }));
    const outcome = await bench.run('convert', ...options, '--authfile', authfile, '--log-level', 'trace', source);
    expect(outcome.stderr).toContain('"msg":"skopeo"');
    expect(outcome.exitCode).toBe(0);
    for (const secret of [login.password, auth]) expect(outcome.stderr + outcome.stdout).not.toContain(secret);
  });
});
