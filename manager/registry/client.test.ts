import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { digestOf, ociDigest } from '#core/digest.ts';
import { type ClientOptions, RegistryClient } from './client.ts';
import { startTestRegistry, type TestRegistry } from './client-testing.ts';

const signal = AbortSignal.timeout(60_000);

async function start(options: ClientOptions = {}): Promise<{ registry: TestRegistry; client: RegistryClient }> {
  const registry = await startTestRegistry();
  onTestFinished(() => registry[Symbol.asyncDispose]());
  const access = { insecureRegistries: [registry.host], ...options.access };
  const client = new RegistryClient({ ...options, access });
  onTestFinished(() => client[Symbol.dispose]());
  return { registry, client };
}

async function authFile(auths: Record<string, unknown>): Promise<string> {
  const folder = await mkdtemp('/tmp/gear-');
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await writeFile(`${folder}/auth.json`, JSON.stringify({ auths }));
  return `${folder}/auth.json`;
}

describe('RegistryClient', () => {
  it('follows the pages of the catalogue and of tags', async () => {
    const { registry, client } = await start();
    const names = Array.from({ length: 205 }, (_, at) => `app-${String(at).padStart(3, '0')}`);
    for (const name of names) registry.put(name, 'latest');
    for (const tag of ['1', '2', '3', '4', '5']) registry.put('app-000', tag);
    expect(await Array.fromAsync(client.repositories(registry.host, { signal }))).toEqual(names);
    expect(registry.requests.filter((request) => request.includes('_catalog'))).toHaveLength(3);
    registry.pageSize = 2;
    expect(await Array.fromAsync(client.tags(registry.host, 'app-000', { signal }))).toHaveLength(6);
  });

  it('asks what a tag names only as much as it must', async () => {
    const { registry, client } = await start();
    const digest = registry.put('team/app', '1');
    const target = { host: registry.host, repository: 'team/app' };
    expect(await client.head(target, '1', { signal })).toMatchObject({ digest });
    expect(await client.head(target, '1', { known: digest, signal })).toBe('unchanged');
    expect(await client.head(target, '2', { signal })).toBeUndefined();
    const moved = registry.put('team/app', '1', 'moved');
    expect(await client.head(target, '1', { known: digest, signal })).toMatchObject({ digest: moved });
    expect((await client.manifest(target, ociDigest(moved), { signal })).digest).toBe(moved);
  });

  it('finds the digest itself where the registry does not say it', async () => {
    const { registry, client } = await start();
    const digest = registry.put('app', '1');
    registry.intercept = (request, response) => {
      if (request.method !== 'HEAD') return false;
      response.writeHead(200, { 'content-type': 'application/json' }).end();
      return true;
    };
    const target = { host: registry.host, repository: 'app' };
    expect(await client.head(target, '1', { signal })).toMatchObject({ digest });
    expect(await client.head(target, '1', { known: digest, signal })).toBe('unchanged');
  });

  it.each([
    ['text', 200, 'hello', 'corrupt'],
    ['another shape', 200, '{"repositories":"a"}', 'corrupt'],
    ['names that are none', 200, '{"repositories":[1]}', 'corrupt'],
    ['a failure', 500, '', 'unavailable'],
    ['too many requests', 429, '', 'resource-exhausted'],
    ['no such thing', 404, '{"errors":[{"code":"UNSUPPORTED","message":"no catalogue"}]}', 'not-found'],
    ['a forbidden thing', 403, '', 'permission-denied'],
    ['nothing known', 299, '', 'corrupt'],
  ])('refuses %s', async (_, status, body, code) => {
    const { registry, client } = await start();
    registry.intercept = (_request, response) => {
      response.writeHead(status).end(body);
      return true;
    };
    await expect(Array.fromAsync(client.repositories(registry.host, { signal }))).rejects.toMatchObject({ code });
  });

  it.each([
    ['itself', '</v2/_catalog?n=100>; rel="next"'],
    ['another place', '</v2/elsewhere?n=100>; rel="next"'],
  ])('does not follow a next page that is %s', async (_, link) => {
    const { registry, client } = await start();
    registry.intercept = (_request, response) => {
      response.writeHead(200, { link }).end('{"repositories":["a"]}');
      return true;
    };
    await expect(Array.fromAsync(client.repositories(registry.host, { signal }))).rejects.toMatchObject({
      code: 'corrupt',
    });
  });

  it('gives up on who does not answer, stops in the middle, or never ends', async () => {
    const { registry, client } = await start({ patience: 300 });
    await client.ping(registry.host, { signal });
    const behaviours: [string, (body: import('node:http').ServerResponse) => void][] = [
      ['deadline-exceeded', () => {}],
      ['unavailable', (response) => void response.writeHead(200).write('{"rep')],
      ['unavailable', (response) => void response.socket?.destroy()],
      ['corrupt', (response) => void response.writeHead(200).end(Buffer.alloc(9 * 1024 * 1024, ' '))],
    ];
    for (const [code, behave] of behaviours) {
      registry.intercept = (_request, response) => {
        behave(response);
        return true;
      };
      await expect(Array.fromAsync(client.repositories(registry.host, { signal }))).rejects.toMatchObject({ code });
    }
    await registry[Symbol.asyncDispose]();
    await expect(client.ping(registry.host, { signal })).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('does not take other bytes for a manifest or a blob', async () => {
    const { registry, client } = await start();
    const digest = registry.put('app', '1');
    const other = digestOf(Buffer.from('other'));
    registry.blobs.set(other, Buffer.from('something else'));
    const target = { host: registry.host, repository: 'app' };
    await expect(client.smallBlob(target, other, 100, { signal })).rejects.toMatchObject({ code: 'corrupt' });
    registry.intercept = (_request, response) => {
      response.writeHead(200, { 'docker-content-digest': ociDigest(digest) }).end('{}');
      return true;
    };
    await expect(client.manifest(target, '1', { signal })).rejects.toMatchObject({ code: 'corrupt' });
  });

  it('buys a token with a password, keeps it, and buys a new one when it is refused', async () => {
    const registry = await startTestRegistry();
    onTestFinished(() => registry[Symbol.asyncDispose]());
    registry.put('team/app', '1');
    const auth = Buffer.from('user:pass:word').toString('base64');
    const file = await authFile({ [`${registry.host}/team`]: { auth }, [registry.host]: { auth: 'bm86bm8=' } });
    const access = { insecureRegistries: [registry.host], authFile: file };
    using client = new RegistryClient({ access });
    let valid = 1;
    const bought: string[] = [];
    registry.intercept = (request, response, path) => {
      if (path === '/token') {
        const asked = new URL(request.url ?? '', 'http://a').searchParams;
        bought.push(`${asked.get('service')} ${asked.get('scope')} ${request.headers.authorization}`);
        response.writeHead(200).end(JSON.stringify({ token: `token-${valid}`, expires_in: 300 }));
        return true;
      }
      if (request.headers.authorization === `Bearer token-${valid}`) return false;
      const scope = 'repository:team/app:pull,push';
      const challenge = `Bearer realm="http://${registry.host}/token",service="test, service",scope="${scope}"`;
      response.writeHead(401, { 'www-authenticate': challenge }).end();
      return true;
    };
    const target = { host: registry.host, repository: 'team/app' };
    for (let i = 0; i < 3; i++) expect(await client.head(target, '1', { signal })).toBeDefined();
    const one = `test, service repository:team/app:pull,push Basic ${auth}`;
    expect(bought).toEqual([one]);
    valid = 2;
    expect(await client.head(target, '1', { signal })).toBeDefined();
    expect(bought).toEqual([one, one]);
    valid = 3;
    registry.intercept = (_request, response) => {
      response.writeHead(401).end();
      return true;
    };
    await expect(client.head(target, '1', { signal })).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  it('sends its credentials to nobody else', async () => {
    const { registry, client } = await start();
    const other = await startTestRegistry();
    onTestFinished(() => other[Symbol.asyncDispose]());
    const auth = Buffer.from('user:word').toString('base64');
    const file = await authFile({ [registry.host]: { auth } });
    using known = new RegistryClient({ access: { insecureRegistries: [registry.host], authFile: file } });
    const blob = Buffer.from('elsewhere');
    other.blobs.set(digestOf(blob), blob);
    let seen: string | undefined;
    other.intercept = (request) => {
      seen = String(request.headers.authorization);
      return false;
    };
    registry.intercept = (request, response, path) => {
      if (request.headers.authorization === undefined)
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
      else response.writeHead(307, { location: `http://${other.host}${path}` });
      response.end();
      return true;
    };
    const target = { host: registry.host, repository: 'app' };
    expect(await known.smallBlob(target, digestOf(blob), 100, { signal })).toEqual(blob);
    expect(seen).toBe('undefined');
    await expect(client.smallBlob(target, digestOf(blob), 100, { signal })).rejects.toMatchObject({
      code: 'unauthenticated',
    });
  });
});
