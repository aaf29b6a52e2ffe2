import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { digestOf, digestToBytes, objectPath } from '#core/digest.ts';
import { silentLogger } from '#core/log.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { gear } from '../../deploy/sandbox/gear.ts';
import { freePort } from '../../deploy/sandbox/ports.ts';
import { describeExport, type ExportFacts } from '../../driver/remote/export-facts.ts';
import { NfsSource } from '../../driver/remote/nfs-source.ts';
import { startLyingManager } from '../support/lying-manager.ts';
import { type NfsManager, startNfsManager } from '../support/nfs.ts';
import { randomObject } from '../support/objectfs.ts';

/** libnfs's own tools. */
async function nfs(program: 'nfs-ls' | 'nfs-cat' | 'nfs-cp', port: number, path: string, ...before: string[]) {
  const url = `nfs://127.0.0.1${path}?version=4&nfsport=${port}`;
  const { exitCode, stdout, stderr } = await execa(program, [...before, url], {
    reject: false,
    encoding: 'buffer',
    stdin: 'ignore',
    timeout: 20_000,
  });
  return {
    ok: exitCode === 0,
    bytes: Buffer.from(stdout),
    said: Buffer.from(stderr).toString() + Buffer.from(stdout).toString('latin1', 0, 500),
  };
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

const names = (listing: Buffer): string[] =>
  listing
    .toString()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).at(-1) ?? '')
    .filter((name) => name !== '');

describe('the export, read by libnfs', () => {
  const stack = new AsyncDisposableStack();
  let server: NfsManager;
  const objects = [1, 5_000, 131_072, 400_000].map((size) => randomObject(size));

  beforeAll(async () => {
    server = stack.use(await startNfsManager());
    await server.store(...objects);
  });
  afterAll(() => stack.disposeAsync());

  it('is exactly the store', async () => {
    for (const { digest, bytes } of objects) {
      const read = await nfs('nfs-cat', server.port, `/objects/${objectPath(digest)}`);
      expect(read.bytes.equals(bytes)).toBe(true);
    }
    expect(names((await nfs('nfs-ls', server.port, '/')).bytes)).toEqual(['objects']);
    const found: string[] = [];
    for (const folder of names((await nfs('nfs-ls', server.port, '/objects')).bytes)) {
      const listing = await nfs('nfs-ls', server.port, `/objects/${folder}`);
      found.push(...names(listing.bytes).map((name) => `${folder}/${name}`));
    }
    const inStore = await filesBelow(join(server.manager.root, 'objects'));
    expect(found.sort()).toEqual(inStore);
    expect(inStore.filter((path) => path.startsWith('.'))).toEqual(['.gear/probe']);
  });

  it('shows an object that comes later, also where it was looked for before', async () => {
    const late = randomObject(3_000);
    const path = `/objects/${objectPath(late.digest)}`;
    expect((await nfs('nfs-cat', server.port, path)).ok).toBe(false);
    await server.store(late);
    expect((await nfs('nfs-cat', server.port, path)).bytes.equals(late.bytes)).toBe(true);
  });

  it('takes nothing', async () => {
    const [object] = objects;
    if (object === undefined) throw new Error('no object');
    await using folder = await temporaryFolder();
    const local = join(folder.path, 'local');
    await writeFile(local, 'changed');
    for (const path of [`/objects/${objectPath(object.digest)}`, '/objects/new', '/objects/aa/new']) {
      const written = await nfs('nfs-cp', server.port, path, local);
      expect(written.said).toMatch(/ROFS|read-only|ACCES|Failed/i);
    }
    const file = join(server.manager.root, 'objects', objectPath(object.digest));
    expect(digestOf(await readFile(file))).toBe(object.digest);
    expect(await filesBelow(join(server.manager.root, 'objects'))).not.toContain('new');
  });

  it('shows nothing else of the machine', async () => {
    await mkdir(join(server.manager.root, 'objects', 'zz'), { recursive: true });
    await symlink('/etc/passwd', join(server.manager.root, 'objects', 'zz', 'link'));
    const outside = [
      '/indexes',
      '/images',
      '/etc/passwd',
      server.manager.root,
      '/objects/../catalog.sqlite',
      '/objects/zz/link',
    ];
    for (const path of outside) {
      const read = await nfs('nfs-cat', server.port, path);
      expect(read.bytes.includes('root:')).toBe(false);
      expect(read.ok && read.bytes.length > 0).toBe(false);
    }
  });

  it('is told to nodes, and comes back by itself when its server is killed or falls silent', async () => {
    const facts = await describeExport(server.manager.address);
    expect(facts).toMatchObject({
      server: { host: '127.0.0.1', port: server.port },
      path: '/objects',
      versions: ['4.0', '4.1'],
    });
    const first = await server.serverPid();
    process.kill(first, 'SIGKILL');
    await until('another server', async () => (await server.serverPid().catch(() => first)) !== first);
    await server.serving();
    const second = await server.serverPid();
    process.kill(second, 'SIGSTOP');
    await until('nodes are told', async () => {
      try {
        await describeExport(server.manager.address);
        return undefined;
      } catch (error) {
        return /does not answer: .*no answer within/.test(String(error));
      }
    });
    await until('a server in its place', async () => (await server.serverPid().catch(() => second)) !== second, {
      timeout: 60_000,
    });
    await server.serving();
    expect(server.manager.process.output).toMatch(/"the NFS server is started again"/);
  });
});

describe('who may not read', () => {
  it('sees no export, and the manager still serves', async () => {
    await using server = await startNfsManager({ args: ['--nfs-allow', '10.99.0.0/16,fd00:99::/32'] });
    const [object] = [randomObject(100)];
    await server.store(object);
    for (const path of ['/objects/.gear/probe', `/objects/${objectPath(object.digest)}`]) {
      const read = await nfs('nfs-cat', server.port, path);
      expect(read).toMatchObject({ ok: false });
      expect(read.bytes.length).toBe(0);
    }
    using source = new NfsSource(server.manager.address, silentLogger());
    await expect(source.connected(AbortSignal.timeout(10_000))).rejects.toThrow(/NFS4ERR_(NOENT|ACCESS|PERM|WRONGSEC)/);
    expect(source.state.kind).toBe('refused');
  });

  it.each([
    [['--nfs-allow', '10.0.0.0/33'], /--nfs-allow: expected ADDRESS\/BITS, got "10.0.0.0\/33"/],
    [['--nfs-allow', '10.0.0.0/8,,'], /has an empty part/],
    [['--nfs-allow', '*'], /--nfs-allow/],
    [['--nfs-allow', '10.0.0.0/8; }'], /--nfs-allow/],
    [['--nfs-listen', 'example.org:2049'], /an address is needed/],
    [['--nfs-listen', '127.0.0.1'], /--nfs-listen: expected HOST:PORT/],
    [['--nfs-listen', '0.0.0.0:2049'], /reachable from other machines: say with --nfs-allow/],
    [['--nfs-allow', '10.0.0.0/8,0.0.0.0/0'], /--nfs-allow 0.0.0.0\/0 is everybody/],
    [['--nfs-allow', '127.0.0.1', '--nfs-versions', '3'], /there is no "3"/],
    [['--nfs', 'kernel', '--nfs-listen', '127.0.0.1:4000'], /port 2049/],
    [['--nfs', 'kernel', '--nfs-allow', '127.0.0.1'], /the kernel's NFS server speaks none of/],
  ])('%s is refused', async (args, message) => {
    await using folder = await temporaryFolder();
    const ports = ['--listen', '--monitor-listen', '--http-listen'].flatMap((option) => [option, '127.0.0.1:0']);
    const root = join(folder.path, 'm');
    const { exitCode, stderr } = await gear(['manager', '--root', root, ...ports, '--nfs', 'ganesha', ...args]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});

describe('an export that is not the store of the manager', () => {
  const stack = new AsyncDisposableStack();
  let server: NfsManager;
  let other: NfsManager;
  let facts: ExportFacts;

  beforeAll(async () => {
    server = stack.use(await startNfsManager());
    other = stack.use(await startNfsManager());
    facts = await describeExport(server.manager.address);
  });
  afterAll(() => stack.disposeAsync());

  /** What a node makes of a manager that describes its export so. */
  async function refusal(change: Partial<{ port: number; path: string; probe: string }>) {
    await using manager = await startLyingManager({
      ...{ state: 3, reason: '', host: '127.0.0.1', port: change.port ?? server.port },
      ...{ path: change.path ?? facts.path, versions: ['4.0', '4.1'] },
      probe: {
        path: change.probe ?? facts.probe.path,
        size: BigInt(facts.probe.size),
        digest: digestToBytes(facts.probe.digest),
      },
    });
    using source = new NfsSource(manager.address, silentLogger());
    const error = await source.connected(AbortSignal.timeout(10_000)).then(() => undefined, String);
    return { error, state: source.state.kind };
  }

  it('is trusted when it is', async () => {
    expect(await refusal({})).toEqual({ error: undefined, state: 'trusted' });
  });

  it('is refused: of another manager', async () => {
    const { error, state } = await refusal({ port: other.port });
    expect(error).toMatch(/it is another store, or the bytes were changed on their way/);
    expect(state).toBe('refused');
  });

  it('is refused: no Gear store at all', async () => {
    const { error, state } = await refusal({ probe: '.gear/none' });
    expect(error).toMatch(/is not the store of this manager/);
    expect(state).toBe('refused');
    expect(await refusal({ path: '/elsewhere' })).toMatchObject({ state: 'refused' });
  });

  it('is refused: a path that would end an option or leave the export', async () => {
    for (const path of ['/objects,ro', '/objects nosuid', '/objects/../x', '']) {
      expect((await refusal({ path })).error).toMatch(/describes an NFS export that cannot be/);
    }
  });

  it('is away: nobody listens', async () => {
    expect(await refusal({ port: await freePort() })).toMatchObject({
      state: 'away',
      error: expect.stringContaining('ECONNREFUSED'),
    });
  });
});
