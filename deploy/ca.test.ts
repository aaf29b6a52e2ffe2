import { X509Certificate } from 'node:crypto';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { hashToken, parseTokens } from '../core/security/tokens.ts';
import { makePki, type Pki } from '../test/support/pki.ts';
import { projectRoot } from './sandbox/gear.ts';

const stack = new AsyncDisposableStack();
let pki: Pki;
beforeAll(async () => {
  pki = stack.use(await makePki('node1', 'node2'));
});
afterAll(() => stack.disposeAsync());

const certificate = async (name: string) => new X509Certificate(await readFile(pki.file(name)));

async function snapshot(): Promise<Record<string, string>> {
  const entries = await readdir(pki.file(''), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const facts = files.map(
    async (path) =>
      [path, `${((await stat(path)).mode & 0o777).toString(8)} ${await readFile(path, 'base64')}`] as const,
  );
  return Object.fromEntries(await Promise.all(facts));
}

it('makes certificates that are good for one thing only, and keys for their owner', async () => {
  const [ca, manager, node] = await Promise.all(['ca.crt', 'manager.crt', 'nodes/node1/node.crt'].map(certificate));
  expect(ca?.ca).toBe(true);
  for (const leaf of [manager, node]) {
    expect(leaf?.ca).toBe(false);
    expect(leaf?.verify((ca as X509Certificate).publicKey)).toBe(true);
  }
  expect(manager?.subjectAltName).toBe('IP Address:127.0.0.1, DNS:localhost');
  expect([manager?.keyUsage, node?.keyUsage]).toEqual([['1.3.6.1.5.5.7.3.1'], ['1.3.6.1.5.5.7.3.2']]);
  for (const [path, fact] of Object.entries(await snapshot())) {
    expect([path, fact.slice(0, 4)]).toEqual([path, path.endsWith('.crt') ? '644 ' : '600 ']);
  }
});

it('keeps only hashes where the manager reads', async () => {
  const lines = parseTokens(await readFile(pki.file('tokens'), 'utf8'), 'tokens');
  expect(lines.map(({ name, token }) => [name, token])).toEqual([
    ['admin', undefined],
    ['node1', undefined],
    ['node2', undefined],
  ]);
  expect(lines[1]?.hash).toEqual(hashToken(await pki.token('node1')));
});

it('changes nothing when it is told the same again, and refuses to make something else of it', async () => {
  const before = await snapshot();
  await pki.ca(['manager', '127.0.0.1', 'localhost']);
  await pki.ca(['node', 'node1', 'node2']);
  await expect(pki.ca(['manager', 'other.example.org'])).rejects.toThrow(/manager\.crt is for other names/);
  await expect(pki.ca(['node', '../node3'])).rejects.toThrow(/is no name/);
  await expect(pki.ca(['manager', 'a,IP:0.0.0.0'])).rejects.toThrow(/neither a host name nor an address/);
  await expect(pki.ca(['renew', 'node', 'nobody'])).rejects.toThrow(/is not there/);
  expect(await snapshot()).toEqual(before);
});

it('takes back the token of one, and gives another', async () => {
  const before = await pki.token('node2');
  await pki.ca(['revoke', 'node2']);
  expect(await readFile(pki.file('tokens'), 'utf8')).not.toMatch(/^node2 /m);
  await expect(pki.ca(['revoke', 'node2'])).rejects.toThrow(/has no token of node2/);
  await pki.ca(['node', 'node2']);
  expect(await pki.token('node2')).toMatch(/^[0-9a-f]{64}$/);
  expect(await pki.token('node2')).not.toBe(before);
  await pki.ca(['revoke', 'admin', 'node1']);
  await expect(pki.ca(['revoke', 'node2'])).rejects.toThrow(/last token/);
});

it('renews for the same names, with another key', async () => {
  const before = await certificate('manager.crt');
  await pki.ca(['renew', 'manager']);
  const after = await certificate('manager.crt');
  expect(after.subjectAltName).toBe(before.subjectAltName);
  expect(after.publicKey.equals(before.publicKey)).toBe(false);
});

it('makes no new CA where half of the old one is left', async () => {
  await rm(pki.file('ca.key'));
  await expect(pki.ca(['node', 'node9'])).rejects.toThrow(/only one of ca\.key and ca\.crt/);
});

it('shows how it is used', async () => {
  const { exitCode, stderr } = await execa(join(projectRoot, 'deploy/ca'), ['folder', 'nonsense', 'x'], {
    reject: false,
  });
  expect(exitCode).toBe(2);
  expect(stderr).toContain('Usage: deploy/ca FOLDER COMMAND');
});
