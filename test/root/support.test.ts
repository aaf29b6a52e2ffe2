import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { findProcesses, mountsBelow, temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { startDockerd } from '../../deploy/sandbox/dockerd.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';
import { startRegistry } from '../../deploy/sandbox/registry.ts';

describe('the tests own support', () => {
  it('deletes a temporary folder with what is mounted in it', async () => {
    let path: string;
    {
      await using folder = await temporaryFolder();
      path = folder.path;
      await execa('mount', ['-t', 'tmpfs', 'none', path]);
      await writeFile(join(path, 'file'), 'x');
      expect(mountsBelow(path)).toEqual([path]);
    }
    expect(mountsBelow(path)).toEqual([]);
    expect(existsSync(path)).toBe(false);
  });

  it('ends a process that does not listen to SIGTERM', async () => {
    let pid: number;
    {
      await using stubborn = await RunningProcess.start({
        name: 'stubborn',
        command: '/bin/sh',
        args: ['-c', 'trap "" TERM; echo ready; while :; do sleep 0.1; done'],
        grace: 200,
      });
      pid = stubborn.pid;
      await stubborn.waitForOutput(/ready/);
    }
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });

  it('tells why a process ended too early', async () => {
    await using failing = await RunningProcess.start({
      name: 'failing',
      command: '/bin/sh',
      args: ['-c', 'echo no such option; exit 3'],
    });
    await expect(failing.waitForOutput(/ready/)).rejects.toThrow(/exit code 3[\s\S]*no such option/);
  });

  it('runs a registry that wants a login', async () => {
    await using registry = await startRegistry({ login: { user: 'somebody', password: 'secret' } });
    const answer = await fetch(`http://${registry.host}/v2/`);
    expect(answer.status).toBe(401);
    const authorization = `Basic ${Buffer.from('somebody:secret').toString('base64')}`;
    expect((await fetch(`http://${registry.host}/v2/`, { headers: { authorization } })).status).toBe(200);
    expect(registry.requests().some(({ path, status }) => path === '/v2/' && status === 401)).toBe(true);
  });

  it('runs a private dockerd and leaves nothing of it', async () => {
    let folder: string;
    {
      await using dockerd = await startDockerd();
      folder = dockerd.folder;
      expect(await dockerd.docker.run(['info', '--format', '{{.Driver}} {{.ServerVersion}}'])).toMatch(/^overlay2 \d/);
    }
    expect(mountsBelow(folder)).toEqual([]);
    expect(await findProcesses(({ commandLine }) => commandLine.includes(folder))).toEqual([]);
    expect(existsSync(folder)).toBe(false);
  });
});
