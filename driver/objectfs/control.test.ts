import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { GearError } from '#core/errors.ts';
import { silentLogger } from '#core/log.ts';
import { callControl, checkSocketPath, serveControl } from './control.ts';
import { changeSettings, completeSettings, readSettings, writeSettings } from './settings.ts';

const signal = AbortSignal.timeout(10_000);

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'gear-ctl-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

test('calls are answered, errors keep their code, and nonsense harms nobody', async () => {
  const path = join(await folder(), 's.sock');
  // What a dead process left in the way.
  await writeFile(path, '');
  await using _server = await serveControl(
    path,
    {
      add: (params) => (params as number[]).reduce((a, b) => a + b, 0),
      fail: () => {
        throw new GearError('resource-exhausted', 'full');
      },
      nothing: () => {},
    },
    silentLogger(),
  );
  expect(await callControl(path, 'add', [1, 2, 3], { signal })).toBe(6);
  expect(await callControl(path, 'nothing', undefined, { signal })).toBeNull();
  await expect(callControl(path, 'fail', undefined, { signal })).rejects.toMatchObject({
    code: 'resource-exhausted',
    message: 'full',
  });
  await expect(callControl(path, 'toString', undefined, { signal })).rejects.toMatchObject({ code: 'unsupported' });
  const socket = createConnection({ path });
  socket.write('this is not JSON\n');
  const reply = await new Promise<string>((resolve) => socket.once('data', (bytes) => resolve(String(bytes))));
  expect(reply).toContain('"error"');
  socket.destroy();
  expect(await callControl(path, 'add', [], { signal })).toBe(0);
});

test('nobody there is unavailable, silence ends with the signal', async () => {
  const path = join(await folder(), 's.sock');
  await expect(callControl(path, 'add', [], { signal })).rejects.toMatchObject({ code: 'unavailable' });
  const { promise, resolve } = Promise.withResolvers<void>();
  await using _server = await serveControl(path, { wait: () => promise }, silentLogger());
  await expect(callControl(path, 'wait', [], { signal: AbortSignal.timeout(30) })).rejects.toThrow(/timeout/);
  resolve();
  expect(() => checkSocketPath(`/${'x'.repeat(108)}`)).toThrow(/too long/);
});

test('settings have defaults, are changed one by one and survive', async () => {
  const file = join(await folder(), 'settings.json');
  const settings = completeSettings({ manager: 'm:1' });
  expect(settings).toMatchObject({ manager: 'm:1', deadline: 60_000, cacheSize: 0, logLevel: 'info' });
  const changed = changeSettings(settings, { cacheSize: 5 });
  writeSettings(file, changed);
  expect(readSettings(file)).toEqual({ ...settings, cacheSize: 5 });
});
