import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { ociDigest } from '#core/digest.ts';
import { addImage, randomContents } from '../catalog/testing.ts';
import { startTestManager, type TestManager } from '../testing.ts';

/** Runs a command's program against a manager; gives what came out. */
async function run(command: string, args: readonly string[], test?: TestManager) {
  const program = fileURLToPath(new URL(`./${command}.ts`, import.meta.url));
  const manager = test === undefined ? [] : ['--manager', test.manager.addresses.grpc];
  const result = await execa(process.execPath, [program, ...manager, ...args], { reject: false, timeout: 30_000 });
  return { code: result.exitCode, out: result.stdout, err: result.stderr };
}

describe('gear images', () => {
  it('lists what there is, the last one first, as a table and as JSON', async () => {
    await using test = await startTestManager();
    const { store } = test.manager;
    expect((await run('images', [], test)).out).toMatch(/^IMAGE +DIGEST/);
    const change = { fileBytes: 400, objectBytes: 300, entries: 12, convertedAt: Date.UTC(2026, 0, 2, 3, 4) };
    const image = await addImage(store, 'docker://docker.io/library/nginx:1', randomContents(2), change);
    await addImage(store, 'docker://app', randomContents(1), { convertedAt: 1 });
    const { code, out } = await run('images', [], test);
    expect(code).toBe(0);
    const lines = out.split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[1]).toContain('docker://docker.io/library/nginx:1');
    expect(lines[1]).toMatch(
      new RegExp(`${image.sourceDigest.slice(0, 12)} +linux/amd64 +1 +12 +1 +300 B +25 % +2026-01-02 03:04`),
    );
    const json = JSON.parse((await run('images', ['--json'], test)).out);
    expect(json).toHaveLength(2);
    expect(json[0]).toMatchObject({ sourceDigest: ociDigest(image.sourceDigest), gearDigest: null, fileBytes: 400 });
  });
});

describe('gear inspect', () => {
  it('shows an image, its index and its files', async () => {
    await using test = await startTestManager();
    const image = await addImage(test.manager.store, 'docker://nginx', randomContents(2), { warnings: ['odd thing'] });
    const plain = await run('inspect', ['nginx'], test);
    expect(plain.code).toBe(0);
    expect(plain.out).toContain(`Digest:      ${ociDigest(image.sourceDigest)}`);
    expect(plain.out).toContain('warning: odd thing');
    const all = await run('inspect', ['--index', '--files', image.sourceDigest], test);
    expect(all.out).toMatch(/TYPE +NAMES\nfile +2/);
    expect(all.out).toMatch(/-rw-r--r-- +0:0 +100 +2023-11-14 22:13:20 +[0-9a-f]{12} +\/file-0/);
    const json = JSON.parse((await run('inspect', ['nginx', '--json', '--index', '--files'], test)).out);
    expect(json).toMatchObject({
      config: { architecture: 'amd64' },
      index: { chunkSize: 131_072, types: { file: 2 } },
      files: [
        { path: '/file-0', type: 'file', mode: '0644', size: 100 },
        { path: '/file-1', size: 101 },
      ],
    });
  });

  it('says in one line what is wrong', async () => {
    await using test = await startTestManager();
    const cases: [string[], number, RegExp][] = [
      [['nothing'], 1, /^gear inspect: .*nothing: no such image here; .*"gear images"/],
      [['A B'], 2, /white space/],
      [[], 2, /takes IMAGE/],
      [['x', '--platform', 'nonsense'], 2, /os\/architecture/],
    ];
    for (const [args, code, message] of cases) {
      const result = await run('inspect', args, test);
      expect([result.code, result.out]).toEqual([code, '']);
      expect(result.err.split('\n')[0]).toMatch(message);
    }
  });
});

describe('without a manager', () => {
  it.each(['images', 'inspect'])('gear %s says where it looked and what to do', async (command) => {
    const args = ['--manager', '127.0.0.1:1', ...(command === 'inspect' ? ['x'] : [])];
    const { code, err } = await run(command, args);
    expect(code).toBe(1);
    expect(err).toMatch(/^gear \w+: no manager at 127\.0\.0\.1:1: nothing listens there; .*--manager HOST:PORT/);
    expect(err.split('\n')).toHaveLength(1);
  });

  it('takes something else for no manager', async () => {
    await using test = await startTestManager();
    const { monitor, http } = test.manager.addresses;
    expect((await run('images', ['--manager', monitor])).err).toMatch(/no Gear manager/);
    expect((await run('images', ['--manager', http])).err).toMatch(
      /no manager at .*: what listens there speaks no gRPC/,
    );
  });
});
