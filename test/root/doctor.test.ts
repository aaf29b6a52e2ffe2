import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { gear, startDriver, startManager } from '../../deploy/sandbox/gear.ts';
import type { Check } from '../../driver/doctor/check.ts';
import { temporaryFolder } from '../support/cleanup.ts';

async function doctor(...args: string[]) {
  const { exitCode, stdout, stderr } = await gear(['doctor', ...args, '--json']);
  const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: Check[] };
  return { exitCode, stderr, ok, checks, state: Object.fromEntries(checks.map(({ id, state }) => [id, state])) };
}

describe('gear doctor', () => {
  it('looks at a node before anything is installed, and leaves nothing', async () => {
    await using folder = await temporaryFolder();
    const root = join(folder.path, 'not', 'yet');
    const { checks, state, ok, exitCode } = await doctor('--root', root, '--socket', join(folder.path, 'none.sock'));
    expect(state).toMatchObject({
      'kernel.root': 'ok',
      'kernel.overlay': 'ok',
      'root.trusted-xattrs': 'ok',
      'driver.plugin': 'warning',
      'driver.status': 'warning',
    });
    expect(exitCode).toBe(ok ? 0 : 1);
    for (const { state: is, cost, remedy } of checks)
      if (is === 'warning' || is === 'missing') expect([cost, remedy]).not.toContain(undefined);
    expect(existsSync(join(folder.path, 'not'))).toBe(false);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  it('finds a manager, its version and its clock', async () => {
    await using folder = await temporaryFolder();
    await using manager = await startManager();
    const args = ['--root', folder.path, '--manager', manager.address, '--manager-http', manager.http];
    expect((await doctor(...args)).state).toMatchObject({
      'manager.serving': 'ok',
      'manager.version': 'ok',
      'manager.clock': 'ok',
    });
    await manager.kill();
    const { state, exitCode } = await doctor(...args);
    expect(state['manager.serving']).toBe('missing');
    expect(exitCode).toBe(1);
  });

  it('is not taken in by something else at the addresses', async () => {
    await using folder = await temporaryFolder();
    const server = createServer((_request, response) => response.end('hello'));
    onTestFinished(() => void server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const socket = join(folder.path, 'plugin.sock');
    const plugin = createServer((_request, response) => response.end('{"Implements":["VolumeDriver"]}'));
    onTestFinished(() => void plugin.close());
    await new Promise<void>((resolve) => plugin.listen(socket, resolve));
    const { checks, exitCode } = await doctor(
      ...['--root', folder.path, '--manager', `127.0.0.1:${port}`, '--socket', socket],
    );
    expect(exitCode).toBe(1);
    expect(checks.find(({ id }) => id === 'manager.serving')).toMatchObject({ state: 'missing' });
    expect(checks.find(({ id }) => id === 'driver.plugin')).toMatchObject({
      state: 'missing',
      found: expect.stringContaining('VolumeDriver'),
    });
  });

  it('misses what the root filesystem cannot do', async () => {
    const { state, exitCode } = await doctor('--root', '/proc/sys');
    expect(exitCode).toBe(1);
    expect(state['kernel.features']).toBe('missing');
  });

  it('tells people the same in a table, and refuses nonsense', async () => {
    await using folder = await temporaryFolder();
    const { stdout } = await gear(['doctor', '--root', folder.path]);
    expect(stdout).toMatch(/^Kernel\n {2}ok {7}version/);
    expect(stdout).not.toContain('\x1b');
    expect((await gear(['doctor', '--root', 'relative'])).exitCode).toBe(2);
    expect((await gear(['doctor', '--manager', 'nonsense'])).exitCode).toBe(2);
    expect((await gear(['doctor', '--help'])).stdout).toContain('--manager-http');
  });

  it("finds the driver where containerd's configuration says that it is, and nothing elsewhere", async () => {
    await using folder = await temporaryFolder();
    const socket = join(folder.path, 'snap.sock');
    await using driver = await startDriver({ args: ['--containerd-socket', socket] });
    const config = join(folder.path, 'config.toml');
    const cri = '[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "gear"';
    const proxy = `[proxy_plugins.gear]\ntype = "snapshot"\naddress = "${socket}"`;
    writeFileSync(config, `version = 2\n${proxy}\n${cri}\ndisable_snapshot_annotations = false\n`);
    const args = ['--root', driver.root, '--containerd-config', config];
    expect((await doctor(...args)).state).toMatchObject({
      'containerd.version': 'ok',
      'containerd.socket': 'ok',
      'containerd.proxy-plugin': 'ok',
      'containerd.cri-snapshotter': 'ok',
      'containerd.cri-annotations': 'ok',
    });
    // Something else answers there.
    expect((await doctor(...args, '--containerd-socket', driver.socket)).state).toMatchObject({
      'containerd.socket': 'missing',
      'containerd.proxy-plugin': 'missing',
    });
    writeFileSync(config, 'version = [\n');
    expect((await doctor(...args)).state).toMatchObject({
      'containerd.socket': 'ok',
      'containerd.config': 'warning',
    });
  });
});
