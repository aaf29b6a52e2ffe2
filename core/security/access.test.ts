import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { until } from '../abort.ts';
import { accessOf, TokenHeader } from './access.ts';
import { readPrivateFile } from './private-file.ts';
import { firstToken, hashToken, parseTokens } from './tokens.ts';

const TOKEN = 'abcdefghijklmnop0123456789';
const stack = new AsyncDisposableStack();
let folder: string;

beforeAll(async () => {
  folder = stack.use(await temporaryFolder()).path;
});
afterAll(() => stack.disposeAsync());

async function file(name: string, text = TOKEN, mode = 0o600): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  await chmod(path, mode);
  return path;
}

describe('a token file', () => {
  it('has names, tokens and hashes, comments and empty lines', () => {
    const hash = hashToken('another-token-of-a-node').toString('hex');
    const text = `# nodes\n\n  node1  ${TOKEN}\r\nnode-2.example sha256:${hash}\n${TOKEN}x`;
    expect(parseTokens(text, 'f').map(({ name, token }) => [name, token])).toEqual([
      ['node1', TOKEN],
      ['node-2.example', undefined],
      ['(no name)', `${TOKEN}x`],
    ]);
    expect(parseTokens(text, 'f')[1]?.hash.toString('hex')).toBe(hash);
    expect(firstToken(text, 'f')).toBe(TOKEN);
    expect(() => firstToken(`a sha256:${hash}`, 'f')).toThrow(/f: its first line has only the hash/);
  });

  it.each([
    ['too short', 'node1 short'],
    ['three words', `node1 ${TOKEN} further`],
    ['letters that no header takes', `node1 ${TOKEN}ä`],
    ['half a hash', 'node1 sha256:0123'],
    ['a name with a slash', `a/b ${TOKEN}`],
    ['nothing', '# nothing\n'],
  ])('is refused with %s, without saying what is in it', (_what, text) => {
    const line = `# first\n${text}`;
    expect(() => parseTokens(line, 'the file')).toThrow(/^the file: (line 2 is not|there is no token)/);
    for (const word of text.split(' ').slice(1)) expect(() => parseTokens(line, 'the file')).not.toThrow(word);
  });
});

describe('a file that security rests on', () => {
  it.each([
    ['secret', 0o600, true],
    ['secret', 0o400, true],
    ['secret', 0o440, true],
    ['secret', 0o644, false],
    ['secret', 0o604, false],
    ['secret', 0o620, false],
    ['secret', 0o601, false],
    ['public', 0o644, true],
    ['public', 0o666, false],
  ] as const)('%s with mode %o', async (kind, mode, isTaken) => {
    const path = await file(`mode-${kind}-${mode}`, TOKEN, mode);
    if (isTaken) expect(readPrivateFile(path, kind, '--x').toString()).toBe(TOKEN);
    else expect(() => readPrivateFile(path, kind, '--x')).toThrow(`--x ${path}: others may`);
  });

  it('is a file, is there, and has something in it', async () => {
    const [empty, link, sub] = [await file('empty', ''), join(folder, 'link'), join(folder, 'folder')];
    await symlink(await file('behind'), link);
    await mkdir(sub);
    expect(readPrivateFile(link, 'secret', '--x').toString()).toBe(TOKEN);
    expect(() => readPrivateFile(join(folder, 'none'), 'secret', '--x')).toThrow(/none: there is no such file/);
    expect(() => readPrivateFile(sub, 'public', '--x')).toThrow(/not a file/);
    expect(() => readPrivateFile(empty, 'secret', '--x')).toThrow(/it is empty/);
  });
});

describe('options', () => {
  const none = {
    'tls-ca': undefined,
    'tls-cert': undefined,
    'tls-key': undefined,
    'token-file': undefined,
    insecure: false,
  };

  it('without any, nothing is protected', () => {
    expect(accessOf(none)).toEqual({});
  });

  it('do not send a token in the clear, unless told to', async () => {
    const token = await file('token');
    expect(() => accessOf({ ...none, 'token-file': token })).toThrow(
      /not sent without TLS; give --tls-ca FILE, or --insecure/,
    );
    expect(accessOf({ ...none, 'token-file': token, insecure: true })).toEqual({ tokenFile: token });
  });

  it('belong together', async () => {
    const path = await file('some');
    expect(() => accessOf({ ...none, 'tls-cert': path })).toThrow(/needed together/);
    expect(() => accessOf({ ...none, 'tls-cert': path, 'tls-key': path })).toThrow(/needs --tls-ca/);
    expect(() => accessOf({ ...none, 'tls-ca': path, 'tls-cert': path, 'tls-key': path })).toThrow(/does not fit/);
    expect(() => accessOf({ ...none, 'tls-ca': join(folder, 'none') })).toThrow(
      /--tls-ca .*none: there is no such file/,
    );
  });
});

it('takes a token that was changed', async () => {
  const path = await file('changing');
  const header = new TokenHeader(path);
  expect(header.value).toBe(`Bearer ${TOKEN}`);
  await writeFile(path, `node1 ${TOKEN}2`);
  await until('the new token', () => header.value === `Bearer ${TOKEN}2`, { timeout: 5_000 });
});
