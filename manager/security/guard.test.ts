import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { parseCommand, type Values } from '#core/cli/command.ts';
import { silentLogger } from '#core/log.ts';
import { makePki, type Pki } from '../../test/support/pki.ts';
import { startTestManager } from '../testing.ts';
import { AcceptedTokens } from './accepted-tokens.ts';
import { Guard, tokenOf } from './guard.ts';
import { checkListeners, SECURITY_OPTIONS, type SecurityConfig, securityConfig } from './options.ts';

const stack = new AsyncDisposableStack();
let pki: Pki;
beforeAll(async () => {
  pki = stack.use(await makePki('node1', 'node2'));
});
afterAll(() => stack.disposeAsync());

function options(...args: string[]): Values<typeof SECURITY_OPTIONS> {
  const parsed = parseCommand({ name: 'm', summary: '', options: SECURITY_OPTIONS, run: async () => 0 }, args, {});
  if (parsed === 'help') throw new Error('help was not asked for');
  return parsed.values;
}

describe('listeners', () => {
  const tls = ['--tls-cert', 'c', '--tls-key', 'k'];
  const check = (address: string, ...args: string[]) => {
    const values = options(...args);
    checkListeners({ listen: '127.0.0.1:1', 'http-listen': address }, securityConfig(values), values.insecure);
  };

  it.each(['127.0.0.1:1', '127.9.9.9:1', '[::1]:1', 'localhost:1'])(
    'of this machine only need nothing: %s',
    (address) => {
      expect(() => check(address)).not.toThrow();
    },
  );

  it.each(['0.0.0.0:1', '[::]:1', '10.0.0.1:1', 'manager:1', '127.example.org:1', '[fe80::1]:1'])(
    'beyond it are refused: %s',
    (address) => {
      expect(() => check(address)).toThrow(`--http-listen ${address} is reachable from other machines without TLS`);
      expect(() => check(address, ...tls)).toThrow('for everybody: give --tls-client-ca or --token-file');
      expect(() => check(address, '--token-file', 't')).toThrow('without TLS');
      for (const more of [
        ['--tls-client-ca', 'a'],
        ['--token-file', 't'],
      ]) {
        expect(() => check(address, ...tls, ...more)).not.toThrow();
      }
      expect(() => check(address, '--insecure')).not.toThrow();
    },
  );

  it.each([
    [['--tls-client-ca', 'a'], /nobody is asked for a certificate/],
    [['--tls-key', 'k'], /needed together/],
    [[...tls, '--http-auth', 'certificate'], /needs --tls-client-ca/],
    [[...tls, '--http-auth', 'token'], /needs --token-file/],
  ])('%j does not make sense', (args, message) => {
    expect(() => securityConfig(options(...args))).toThrow(message);
  });
});

it('finds the token in a header', () => {
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
  expect(tokenOf('Bearer abc')).toBe('abc');
  expect(tokenOf('bearer  abc ')).toBe('abc');
  expect(tokenOf(basic('user:abc'))).toBe('abc');
  expect(tokenOf(basic(':a:b'))).toBe('a:b');
  for (const none of [undefined, '', 'abc', 'Digest abc', 'Bearer', 'Bearer a b', basic('abc')]) {
    expect(tokenOf(none)).toBeUndefined();
  }
});

describe('accepted tokens', () => {
  it('keep what they were where the file is spoiled, and end what a revoked one has', async () => {
    const path = pki.file('changing');
    const [first, second] = ['first-token-of-the-file', 'second-token-of-the-file'];
    await writeFile(path, `a ${first}\nb ${second}\n`, { mode: 0o600 });
    using tokens = new AcceptedTokens(path, silentLogger());
    const ended: string[] = [];
    tokens.admit(first)?.untilRevoked(() => ended.push('a'));
    tokens.admit(second)?.untilRevoked(() => ended.push('b'));
    tokens.admit(second)?.untilRevoked(() => ended.push('done before'))();
    expect(tokens.admit(first)?.name).toBe('a');
    expect(tokens.admit(`${first}x`)).toBeUndefined();
    await writeFile(path, 'not a token\n');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect([tokens.admit(first)?.name, tokens.admit(second)?.name]).toEqual(['a', 'b']);
    await writeFile(path, `c ${first}\n`);
    await until('the new tokens', () => tokens.admit(second) === undefined);
    expect(ended).toEqual(['b']);
    expect(tokens.admit(first)?.name).toBe('c');
    await writeFile(path, `b ${second}\n`);
    await until('the end of the first', () => ended.length === 2);
  });
});

describe('the HTTP port', () => {
  const config = (httpAuth: SecurityConfig['httpAuth']): SecurityConfig => ({
    tls: { cert: pki.file('manager.crt'), key: pki.file('manager.key'), clientCa: pki.file('ca.crt') },
    tokenFile: pki.file('tokens'),
    httpAuth,
  });
  const get = async (address: string, shown: { readonly cert?: boolean; readonly token?: string }) => {
    const [host, port] = address.split(':');
    const read = (name: string) => readFileSync(pki.file(name));
    const own = shown.cert === true ? { cert: read('nodes/node1/node.crt'), key: read('nodes/node1/node.key') } : {};
    const headers = shown.token === undefined ? {} : { authorization: `Bearer ${shown.token}` };
    const { promise, resolve } = Promise.withResolvers<number | string>();
    request({ host, port, path: '/healthz', agent: false, ca: read('ca.crt'), headers, ...own }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
      .on('error', () => resolve('failed'))
      .end();
    return await promise;
  };

  it.each([
    ['all', { both: 200, certificate: 401, token: 'failed', nothing: 'failed' }],
    ['certificate', { both: 200, certificate: 200, token: 'failed', nothing: 'failed' }],
    ['token', { both: 200, certificate: 401, token: 200, nothing: 401 }],
  ] as const)('asks with --http-auth %s for that', async (httpAuth, expected) => {
    await using test = await startTestManager({ security: config(httpAuth) });
    const { http } = test.manager.addresses;
    const token = await pki.token('node1');
    expect({
      both: await get(http, { cert: true, token }),
      certificate: await get(http, { cert: true }),
      token: await get(http, { token }),
      nothing: await get(http, {}),
    }).toEqual(expected);
  });
});

it('logs a stranger once a minute, and counts all', async () => {
  const lines: string[] = [];
  const counted: object[] = [];
  const log = { ...silentLogger(), warn: (facts: object) => lines.push(JSON.stringify(facts)) } as never;
  const refused = { add: (amount: number, labels: object) => void counted.push({ amount, ...labels }) };
  const tokenFile = pki.file('tokens');
  using guard = new Guard({ config: { tls: undefined, tokenFile, httpAuth: 'all' }, log, refused });
  const stranger = (port: number) => ({ peer: `10.0.0.1:${port}`, wanted: '/x' });
  expect(guard.admit('Bearer not-a-token-of-anybody', stranger(1))).toBeUndefined();
  expect(guard.admit('Bearer not-a-token-of-anybody', stranger(2))).toBeUndefined();
  expect(guard.admit(undefined, stranger(3))).toBeUndefined();
  expect(guard.admit(`Bearer ${await pki.token('node2')}`, stranger(4))?.name).toBe('node2');
  expect(lines.length).toBe(2);
  expect(lines.join()).not.toContain('not-a-token-of-anybody');
  expect(counted).toEqual([
    { amount: 1, reason: 'wrong token' },
    { amount: 1, reason: 'wrong token' },
    { amount: 1, reason: 'no token' },
  ]);
  expect(await readFile(tokenFile, 'utf8')).not.toContain(await pki.token('node2'));
});
