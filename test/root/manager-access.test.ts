import { readFileSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { request as requestInTheClear } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import type { MethodDefinition } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { isGearError } from '#core/errors.ts';
import { connect } from '#core/grpc/client.ts';
import type { Access } from '#core/security/access.ts';
import { gear, projectRoot, startManager, type TestManager } from '../../deploy/sandbox/gear.ts';
import { type ManagerSurface, managerSurface } from '../support/manager-surface.ts';
import { makePki, type Pki } from '../support/pki.ts';

const UPSTREAM = ['--upstream', 'docker://127.0.0.1:1'];
const stack = new AsyncDisposableStack();
let pki: Pki;
let manager: TestManager;
let surface: ManagerSurface;
/** What each of those who try has to show. */
let visitors: Record<string, Access>;

beforeAll(async () => {
  surface = await managerSurface();
  pki = stack.use(await makePki('node1', 'late', 'gone'));
  const stranger = stack.use(await makePki('node1'));
  manager = stack.use(await startManager({ args: [...pki.managerArgs, ...UPSTREAM] }));
  const at = (part: string, name = 'node1', from = pki) => from.file(`nodes/${name}/${part}`);
  const own = { cert: at('node.crt'), key: at('node.key') };
  const right = { ca: at('ca.crt'), ...own, tokenFile: at('token') };
  const { tokenFile: _, ...tokenless } = right;
  const guessed = pki.file('guessed');
  await writeFile(guessed, 'node1 0123456789abcdef0123456789abcdef\n', { mode: 0o600 });
  await pki.ca(['renew', 'node', 'late'], { GEAR_CERT_DAYS: '-1' });
  const gone = {
    ...right,
    cert: at('node.crt', 'gone'),
    key: at('node.key', 'gone'),
    tokenFile: pki.file('gone-token'),
  };
  await writeFile(gone.tokenFile, await readFile(at('token', 'gone')), { mode: 0o600 });
  visitors = {
    right,
    'no TLS': { tokenFile: right.tokenFile },
    'no certificate': { ca: right.ca, tokenFile: right.tokenFile },
    'a certificate of another CA': {
      ...right,
      cert: at('node.crt', 'node1', stranger),
      key: at('node.key', 'node1', stranger),
    },
    'an expired certificate': { ...right, cert: at('node.crt', 'late'), key: at('node.key', 'late') },
    'no token': tokenless,
    'a wrong token': { ...right, tokenFile: guessed },
    'a revoked token': gone,
  };
});
afterAll(() => stack.disposeAsync());

const TLS_IS_ENOUGH = ['no token', 'a wrong token', 'a revoked token'];
const STRANGERS = [
  'no TLS',
  'no certificate',
  'a certificate of another CA',
  'an expired certificate',
  ...TLS_IS_ENOUGH,
];

interface Outcome {
  readonly what: string;
  /** gRPC's, or HTTP's status. */
  readonly code: string | number;
  readonly said: string;
  /** Bytes of answers. */
  readonly bytes: number;
}

/** Calls a method with an empty message, whatever kind it is, until its first answer or its end. */
async function call(address: string, path: string, access: Access): Promise<Outcome> {
  const raw = { path, requestStream: true, responseStream: true } as const;
  const asIs = (bytes: Buffer) => bytes;
  const method: MethodDefinition<Buffer, Buffer> = {
    ...raw,
    ...{ requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs },
  };
  using connection = connect(address, 'manager', access);
  using exchange = connection.exchange(method, { timeout: 5_000 });
  try {
    await exchange.send(Buffer.alloc(0)).catch(() => {});
    exchange.end();
    for await (const answer of exchange.answers) return { what: path, code: 'ok', said: '', bytes: answer.length };
    return { what: path, code: 'ok', said: '', bytes: 0 };
  } catch (error) {
    if (!isGearError(error)) throw error;
    return { what: path, code: error.code, said: error.message, bytes: 0 };
  }
}

type Route = ManagerSurface['http'][number];
type Answer = Outcome & { readonly headers?: object };
const NO_ROUTE = { method: 'GET', path: '/no/such/route' };

/** Asks a route, with the token as `scheme` has it. */
async function ask(
  { method, path }: Route,
  access: Access,
  scheme: 'Bearer' | 'Basic' = 'Bearer',
  { http } = manager,
): Promise<Answer> {
  const [host, port] = http.split(':');
  const read = (file: string | undefined) => (file === undefined ? undefined : readFileSync(file));
  const token = read(access.tokenFile)?.toString().trim().split(' ')[1];
  const value = scheme === 'Bearer' ? token : Buffer.from(`any:${token}`).toString('base64');
  const headers = token === undefined ? {} : { authorization: `${scheme} ${value}` };
  const tls = { ca: read(access.ca), cert: read(access.cert), key: read(access.key) };
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const what = `${method} ${path}`;
  const send = access.ca === undefined ? requestInTheClear : request;
  send({ host, port, method, path, headers, agent: false, ...tls }, (response) => {
    let body = '';
    response.setEncoding('utf8').on('data', (piece: string) => {
      body += piece;
    });
    response.on('error', reject);
    response.on('end', () => {
      resolve({ what, code: response.statusCode ?? 0, said: body, bytes: body.length, headers: response.headers });
    });
  })
    .on('error', (error) => resolve({ what, code: 'failed', said: error.message, bytes: 0 }))
    .end();
  return await promise;
}

/** That a route let somebody in, whatever it then said. */
function expectEntry({ what, code }: Answer): void {
  expect({ what, code, fine: typeof code === 'number' && code !== 401 && code < 500 }).toEqual({
    what,
    code,
    fine: true,
  });
}

/** That a route gave nothing but the question for a token. */
function expectRefusal({ method }: Route, outcome: Answer): void {
  expect(outcome.code).toBe(401);
  expect(outcome.headers).toMatchObject({ 'www-authenticate': 'Basic realm="gear", charset="UTF-8"' });
  const message = expect.stringContaining('a token that this manager knows');
  if (method !== 'HEAD') expect(JSON.parse(outcome.said)).toEqual({ errors: [{ code: 'UNAUTHORIZED', message }] });
}

const everyCall = async (access: Access, { address, monitor } = manager) => {
  const ports = [
    [address, surface.grpc],
    [monitor, surface.monitor],
  ] as const;
  return await Promise.all(ports.flatMap(([address, paths]) => paths.map((path) => call(address, path, access))));
};

it('knows all methods and routes from the servers themselves', async () => {
  const folder = join(projectRoot, 'proto/gen/gear/v1');
  const generated: string[] = [];
  for (const file of await readdir(folder)) {
    for (const [name, value] of Object.entries((await import(join(folder, file))) as Record<string, unknown>)) {
      if (!name.endsWith('Service') || typeof value !== 'object' || value === null) continue;
      for (const { path } of Object.values(value) as { path: string }[]) generated.push(path);
    }
  }
  expect(generated.length).toBeGreaterThan(15);
  expect([...surface.grpc, ...surface.monitor]).toEqual(expect.arrayContaining(generated));
  for (const list of [surface.grpc, surface.monitor]) {
    expect(list.join('\n')).toMatch(/grpc\.health\.v1\.Health\/Check[\s\S]*grpc\.reflection\.v1\.ServerReflection/);
  }
  const paths = surface.http.map(({ path }) => path);
  expect(paths).toEqual(expect.arrayContaining(['/healthz', '/metrics', '/notifications', '/v2', '/v2/x']));
});

describe('who has all that is asked for', () => {
  it('is let in by every gRPC method', async () => {
    for (const { what, code, said } of await everyCall(visitors['right'] ?? {})) {
      expect([what, code, said]).not.toEqual([what, expect.stringMatching(/^(unauthenticated|unavailable)$/), said]);
    }
  });

  it.each(['Bearer', 'Basic'] as const)('is let in by every HTTP route, with the token as %s', async (scheme) => {
    for (const route of surface.http) {
      expectEntry(await ask(route, visitors['right'] ?? {}, scheme));
    }
  });
});

describe.each(STRANGERS)('who comes with %s', (name) => {
  beforeAll(async () => {
    if (name !== 'a revoked token' || (await readFile(pki.file('tokens'), 'utf8')).includes('gone ') === false) return;
    expect((await call(manager.address, '/gear.v1.Images/List', visitors[name] ?? {})).code).toBe('ok');
    await pki.ca(['revoke', 'gone']);
    await manager.process.waitUntil(
      'the new tokens',
      async () => manager.process.output.includes('token file read again') || undefined,
    );
  });

  it('gets nothing of any gRPC method', async () => {
    const outcomes = await everyCall(visitors[name] ?? {});
    const code = TLS_IS_ENOUGH.includes(name) ? 'unauthenticated' : 'unavailable';
    expect(outcomes).toEqual(outcomes.map(({ what, said }) => ({ what, said, code, bytes: 0 })));
    if (code === 'unauthenticated') {
      for (const { said } of outcomes)
        expect(said).toMatch(/: a token that this manager knows is needed \(--token-file\)$/);
    }
  });

  it('gets nothing of any HTTP route', async () => {
    for (const route of [...surface.http, NO_ROUTE]) {
      const outcome = await ask(route, visitors[name] ?? {});
      if (!TLS_IS_ENOUGH.includes(name)) {
        expect(outcome).toMatchObject({ code: 'failed', bytes: 0 });
        continue;
      }
      expectRefusal(route, outcome);
    }
  });
});

describe('a manager whose HTTP port asks only for a token', () => {
  let other: TestManager;
  const withoutCertificate = (name: string) => {
    const { cert: _cert, key: _key, ...rest } = visitors[name] ?? {};
    return rest;
  };
  beforeAll(async () => {
    if ((await readFile(pki.file('tokens'), 'utf8')).includes('gone ')) await pki.ca(['revoke', 'gone']);
    other = stack.use(await startManager({ args: [...pki.managerArgs, ...UPSTREAM, '--http-auth', 'token'] }));
  });

  it.each(['Bearer', 'Basic'] as const)('lets in by every HTTP route who has the token as %s', async (scheme) => {
    for (const route of surface.http) expectEntry(await ask(route, withoutCertificate('right'), scheme, other));
  });

  it.each(TLS_IS_ENOUGH)('gives nothing of any HTTP route to who comes with %s', async (name) => {
    for (const route of [...surface.http, NO_ROUTE]) {
      for (const access of [visitors[name] ?? {}, withoutCertificate(name)]) {
        expectRefusal(route, await ask(route, access, 'Bearer', other));
      }
    }
  });

  it('asks for TLS as ever, and for a certificate by every gRPC method', async () => {
    for (const route of [...surface.http, NO_ROUTE]) {
      expect(await ask(route, visitors['no TLS'] ?? {}, 'Bearer', other)).toMatchObject({ code: 'failed', bytes: 0 });
    }
    const outcomes = await everyCall(withoutCertificate('right'), other);
    expect(outcomes).toEqual(outcomes.map(({ what, said }) => ({ what, said, code: 'unavailable', bytes: 0 })));
  });
});

describe('a command', () => {
  const commands = [
    ['images'],
    ['inspect', 'x'],
    ['profile', 'show', 'x'],
    ['convert', '--no-push', 'docker://127.0.0.1:1/x'],
    ['convert', '--local', '--no-push', 'docker://127.0.0.1:1/x'],
  ];

  it.each(commands)(
    '%s %s is let in with what the environment names, and says what is missing else',
    async (...args) => {
      const { ca = '', cert = '', key = '', tokenFile = '' } = visitors['right'] ?? {};
      const files = { GEAR_TLS_CA: ca, GEAR_TLS_CERT: cert, GEAR_TLS_KEY: key };
      const run = async (env: NodeJS.ProcessEnv) => await gear([...args, '--manager', manager.address], { env });
      const [right, tokenless] = [await run({ ...files, GEAR_TOKEN_FILE: tokenFile }), await run(files)];
      expect(right.stderr).not.toMatch(/TLS|token/);
      if (!args.includes('--local'))
        expect(tokenless).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/--token-file/) });
    },
  );
});

describe('while it runs', () => {
  it('ends what is served for a token that is revoked', async () => {
    await pki.ca(['node', 'brief']);
    const file = (part: string) => pki.file(`nodes/brief/${part}`);
    const access = { ca: file('ca.crt'), cert: file('node.crt'), key: file('node.key'), tokenFile: file('token') };
    await until(
      'the new token',
      async () => (await call(manager.address, '/gear.v1.Images/List', access)).code === 'ok',
    );
    using connection = connect(manager.address, 'manager', access);
    const asIs = (bytes: Buffer) => bytes;
    const path = '/grpc.health.v1.Health/Watch';
    const watch = {
      path,
      requestStream: true,
      responseStream: true,
      requestSerialize: asIs,
      responseDeserialize: asIs,
    };
    using exchange = connection.exchange(watch as unknown as MethodDefinition<Buffer, Buffer>, { timeout: 20_000 });
    await exchange.send(Buffer.alloc(0));
    exchange.end();
    const answers = exchange.answers[Symbol.asyncIterator]();
    expect((await answers.next()).done).toBe(false);
    const ended = answers.next();
    await pki.ca(['revoke', 'brief']);
    await expect(ended).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  it('takes a renewed certificate, and keeps the one before while the new one does not fit', async () => {
    const serial = async () => {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const [host, port] = manager.http.split(':');
      const { ca, cert, key } = visitors['right'] ?? {};
      const read = (path: string | undefined) => readFileSync(path ?? '');
      request(
        { host, port, path: '/healthz', agent: false, ca: read(ca), cert: read(cert), key: read(key) },
        (response) => {
          const socket = response.socket as unknown as { getPeerCertificate(): { serialNumber: string } };
          resolve(socket.getPeerCertificate().serialNumber);
          response.resume();
        },
      )
        .on('error', reject)
        .end();
      return await promise;
    };
    const [before, pid, key] = [await serial(), manager.process.pid, await readFile(pki.file('manager.key'))];
    await writeFile(pki.file('manager.key'), await readFile(pki.file('nodes/node1/node.key')));
    await until('the refusal', () => manager.process.output.includes('renewed certificate not taken'));
    expect(await serial()).toBe(before);
    await writeFile(pki.file('manager.key'), key);
    await pki.ca(['renew', 'manager']);
    await until('the new certificate', async () => (await serial()) !== before);
    expect((await call(manager.address, '/gear.v1.Images/List', visitors['right'] ?? {})).code).toBe('ok');
    expect(manager.process.pid).toBe(pid);
  });

  it('tells nobody a token: not in its log, its arguments, or what it writes beside its store', async () => {
    const tokens = await Promise.all(['node1', 'late'].map((name) => pki.token(name)));
    tokens.push('0123456789abcdef0123456789abcdef');
    const places = [
      manager.process.output,
      await readFile(`/proc/${manager.process.pid}/cmdline`, 'utf8'),
      await readFile(`/proc/${manager.process.pid}/environ`, 'utf8'),
      await readFile(join(manager.root, 'addresses.json'), 'utf8'),
    ];
    expect(manager.process.output).toContain('"reason":"wrong token","msg":"refused"');
    for (const token of tokens) for (const place of places) expect(place).not.toContain(token);
  });
});

it('is open to everybody only where it is told to be, and says so', async () => {
  await using open = await startManager({ args: ['--insecure', '--http-listen', '0.0.0.0:0'] });
  expect((await call(open.address, '/gear.v1.Images/List', {})).code).toBe('ok');
  await until('the warning', () =>
    /"open":\["0\.0\.0\.0:\d+"\],"msg":"whoever reaches these addresses is let in/.test(open.process.output),
  );
  expect(manager.process.output).not.toContain('whoever reaches');
});

describe('what starts no manager', () => {
  const everywhere = ['--listen', '0.0.0.0:0', '--monitor-listen', '127.0.0.1:0', '--http-listen', '127.0.0.1:0'];
  const tls = () => pki.managerArgs.slice(0, 4);

  it.each([
    ['no TLS', () => everywhere, /--listen 0\.0\.0\.0:0 is reachable from other machines without TLS: give --tls-cert/],
    ['TLS for everybody', () => [...everywhere, ...tls()], /for everybody: give --tls-client-ca or --token-file/],
    [
      'one more listener',
      () => [...everywhere.slice(2), '--listen', '127.0.0.1:0', '--http-listen', '[::]:0'],
      /--http-listen \[::\]:0 is reach/,
    ],
    [
      'a key that others may read',
      () => [...tls().slice(0, 2), '--tls-key', pki.file('loose')],
      /--tls-key .*loose: others may read or change it \(mode 0644\)/,
    ],
    [
      'tokens that others may read',
      () => [...tls(), '--token-file', pki.file('loose')],
      /--token-file .*loose: others may read/,
    ],
    [
      'a file without tokens',
      () => [...tls(), '--token-file', pki.file('ca.key')],
      /--token-file .*ca\.key: line 1 is not "NAME TOKEN"/,
    ],
    [
      'a key of something else',
      () => [...tls().slice(0, 2), '--tls-key', pki.file('ca.key')],
      /no certificate and key that fit/,
    ],
    ['half a pair', () => tls().slice(0, 2), /--tls-cert and --tls-key are needed together/],
  ])('%s', async (_what, args, message) => {
    await writeFile(pki.file('loose'), await readFile(pki.file('ca.key')), { mode: 0o644 });
    const { exitCode, stderr } = await gear(['manager', '--root', pki.file('never'), ...args()]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/PRIVATE KEY/);
  });
});
