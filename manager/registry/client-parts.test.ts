import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { nextLink, parseChallenges } from './client-challenge.ts';
import { authFiles, findCredentials } from './client-credentials.ts';

const { signal } = new AbortController();

describe('parseChallenges', () => {
  it.each([
    ['', []],
    ['Basic realm="Registry Realm"', [['basic', { realm: 'Registry Realm' }]]],
    ['Basic', [['basic', {}]]],
    [
      'Bearer realm="https://auth/token",service="a,b",scope="repository:a/b:pull,push"',
      [['bearer', { realm: 'https://auth/token', service: 'a,b', scope: 'repository:a/b:pull,push' }]],
    ],
    [
      'Basic realm=plain, Bearer realm="x" , error="a\\"b"',
      [
        ['basic', { realm: 'plain' }],
        ['bearer', { realm: 'x', error: 'a"b' }],
      ],
    ],
    ['Bearer realm="unfinished', [['bearer', {}]]],
  ])('%s', (header, expected) => {
    const found = parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
    expect(found.slice(0, expected.length)).toEqual(expected);
  });
});

describe('nextLink', () => {
  it.each([
    [undefined, undefined],
    ['</v2/_catalog?last=b&n=2>; rel="next"', '/v2/_catalog?last=b&n=2'],
    ['<a>; rel=prev, <b>; rel=next', 'b'],
    ['<a>; rel="prev"', undefined],
    ['nonsense', undefined],
  ])('%s', (header, expected) => {
    expect(nextLink(header)).toBe(expected);
  });
});

describe('credentials', () => {
  const encoded = (text: string) => ({ auth: Buffer.from(text).toString('base64') });

  async function home(files: Record<string, unknown>): Promise<string> {
    const folder = await mkdtemp('/tmp/gear-');
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    for (const [name, content] of Object.entries(files)) {
      await writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
    }
    return folder;
  }

  it('looks where skopeo looks', () => {
    expect(authFiles('given', { REGISTRY_AUTH_FILE: 'variable' })).toEqual(['given']);
    expect(authFiles(undefined, { REGISTRY_AUTH_FILE: 'variable' })).toEqual(['variable']);
    expect(authFiles(undefined, { XDG_RUNTIME_DIR: '/run/user/7', DOCKER_CONFIG: '/d' }, '/home/x')).toEqual([
      '/run/user/7/containers/auth.json',
      '/home/x/.config/containers/auth.json',
      '/d/config.json',
    ]);
  });

  it.each([
    ['quay.io', 'team/app', 'team'],
    ['quay.io', 'team/other', 'other'],
    ['quay.io', 'else', 'all'],
    ['docker.io', 'library/x', 'hub'],
    ['127.0.0.1:5000', '', 'local'],
    ['unknown.io', 'a', undefined],
  ])('takes the nearest for %s/%s', async (host, repository, user) => {
    const folder = await home({
      'auth.json': {
        auths: {
          'quay.io': encoded('all:1'),
          'quay.io/team': encoded('team:1'),
          'quay.io/team/other': encoded('other:1'),
          'https://index.docker.io/v1/': encoded('hub:1'),
          'http://127.0.0.1:5000': encoded('local:a:b'),
        },
      },
    });
    const found = await findCredentials({ host, repository }, join(folder, 'auth.json'), signal);
    expect(found?.kind === 'password' ? found.user : undefined).toBe(user);
    if (user === 'local') expect(found).toMatchObject({ password: 'a:b' });
  });

  it('takes an identity token, and asks a helper', async () => {
    const helper = '#!/bin/sh\nread server\necho "{\\"Username\\":\\"of $server\\",\\"Secret\\":\\"s\\"}"\n';
    const folder = await home({
      'auth.json': { auths: { 'a.io': { identitytoken: 'long' } }, credHelpers: { 'b.io': 'geartest' } },
      'docker-credential-geartest': helper,
    });
    await chmod(join(folder, 'docker-credential-geartest'), 0o755);
    const before = process.env['PATH'];
    process.env['PATH'] = `${folder}:${before}`;
    onTestFinished(() => {
      process.env['PATH'] = before;
    });
    const file = join(folder, 'auth.json');
    expect(await findCredentials({ host: 'a.io', repository: 'x' }, file, signal)).toEqual({
      kind: 'identity',
      token: 'long',
    });
    expect(await findCredentials({ host: 'b.io', repository: 'x' }, file, signal)).toEqual({
      kind: 'password',
      user: 'of b.io',
      password: 's',
    });
  });

  it('names a file that is not JSON, without its content', async () => {
    const folder = await home({ 'auth.json': '{"auths": secret}' });
    const failed = findCredentials({ host: 'a.io', repository: '' }, join(folder, 'auth.json'), signal);
    await expect(failed).rejects.toMatchObject({ code: 'failed-precondition' });
    await expect(failed).rejects.not.toThrow(/secret/);
  });
});
