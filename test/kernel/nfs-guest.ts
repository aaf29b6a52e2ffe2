import { execFile } from 'node:child_process';
import { hash } from 'node:crypto';
import { mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '#core/abort.ts';
import { createLogger } from '#core/log.ts';
import { ImageStore } from '../../driver/images/image-store.ts';
import { unmount } from '../../driver/kernel/mount.ts';
import { findMount } from '../../driver/kernel/mount-info.ts';
import type { NfsVersion } from '../../driver/kernel/nfs-mount.ts';
import { mountOverlay } from '../../driver/kernel/overlay.ts';
import { NodeMount } from '../../driver/nfs/node-mount.ts';
import { nodePaths } from '../../driver/paths.ts';

// Runs in a machine of its own, whose kernel has an NFS client: the driver's mount, images and overlays over it, with the host stopping, starting and
// replacing the server when it is asked to.

export interface GuestFacts {
  readonly manager: string;
  /** One that says it has the store of `manager`, and points to another. */
  readonly liar: string;
  readonly descriptor: string;
  /** base64 */
  readonly index: string;
  readonly calls: string;
}

/** What the host is told, by step. */
export interface GuestResults {
  trusted?: { state: string; reason: string; options: readonly string[]; seconds: number };
  read?: { sums: Record<string, string>; seconds: number; program: string; setuid: string };
  written?: { mode: number; sum: string };
  silent?: {
    failed: string;
    seconds: number;
    folder: string | null;
    folderSeconds: number;
    state: string;
    ended: number;
  };
  back?: { state: string; sums: Record<string, string> };
  killed?: { sums: Record<string, string>; state: string };
  again?: {
    kept: boolean;
    failed: string;
    seconds: number;
    mounts: number;
    state: string;
    sums: Record<string, string>;
  };
  zeros?: { state: string; reason: string; isMounted: boolean };
  liar?: { state: string; reason: string; isMounted: boolean };
  end?: { isMounted: boolean };
  error?: string;
}

const ROOT = '/var/lib/gear';
const DEADLINE = 6_000;
const facts = JSON.parse(await readFile('/facts.json', 'utf8')) as GuestFacts;
const log = createLogger('guest', 'info');
const results: GuestResults = {};
const merged = '/merged';

async function host(name: string, params: unknown = null): Promise<unknown> {
  const answer = await fetch(`${facts.calls}/${name}`, { method: 'POST', body: JSON.stringify(params) });
  if (!answer.ok) throw new Error(`${name}: ${await answer.text()}`);
  return await answer.json();
}

const seconds = (since: number): number => (performance.now() - since) / 1000;

async function sumOf(path: string): Promise<string> {
  return hash('sha256', await readFile(path));
}

/** The digests of all files. */
async function sums(): Promise<Record<string, string>> {
  const entries = await readdir(merged, { recursive: true, withFileTypes: true });
  const found: Record<string, string> = {};
  for (const entry of entries.filter((candidate) => candidate.isFile())) {
    const path = join(entry.parentPath, entry.name);
    found[path.slice(merged.length)] = await sumOf(path);
  }
  return found;
}

async function runAs(uid: number, program: string, ...args: string[]): Promise<{ ok: boolean; output: string }> {
  const { promise, resolve } = Promise.withResolvers<{ ok: boolean; output: string }>();
  execFile(program, args, { uid, gid: uid }, (error, stdout, stderr) =>
    resolve({ ok: error === null, output: stdout + stderr || (error?.message ?? '') }),
  );
  return await promise;
}

const run = async (program: string, ...args: string[]) => await runAs(0, program, ...args);
const dropCaches = async () => await writeFile('/proc/sys/vm/drop_caches', '3');

function nodeMount(target: string, manager: string, version: NfsVersion): NodeMount {
  return new NodeMount({ target, manager, version, connections: 2, deadline: DEADLINE, log });
}

async function settled(mount: NodeMount, ...states: string[]): Promise<ReturnType<NodeMount['status']>> {
  return await until(
    `NFS ${states.join(' or ')}`,
    () => (states.includes(mount.status().state) ? mount.status() : undefined),
    { timeout: 40_000 },
  );
}

async function steps(): Promise<void> {
  const paths = nodePaths(ROOT);
  for (const folder of [paths.run, paths.public, paths.remote, merged, '/upper', '/work'])
    await mkdir(folder, { recursive: true });
  const began = performance.now();
  await using nfs = nodeMount(paths.nfs, facts.manager, '4.1');
  const { state, reason } = await settled(nfs, 'trusted', 'refused', 'off');
  const mounted = findMount(paths.nfs);
  results.trusted = {
    state,
    reason,
    options: [...(mounted?.options ?? []), ...(mounted?.superOptions ?? [])],
    seconds: seconds(began),
  };

  const images = await ImageStore.open({ paths, format: 'erofs', objects: () => nfs.folder(), log });
  await writeFile('/index', Buffer.from(facts.index, 'base64'));
  const image = await images.import(Buffer.from(facts.descriptor), '/index', '/users/one');
  const view = await images.view(image.id);
  if (view.data.at(-1) !== paths.nfs) throw new Error(`the view is not over NFS: ${view.data.join(', ')}`);
  await mountOverlay(merged, { lower: [view.lower], data: view.data, upper: '/upper', work: '/work' });
  const busybox = `${merged}/bin/busybox`;
  const reading = performance.now();
  const read = await sums();
  results.read = {
    sums: read,
    seconds: seconds(reading),
    program: (await run(busybox, 'echo', 'runs')).output,
    // An applet that has to be root says so where it is not.
    setuid: (await runAs(1000, `${merged}/bin/busybox-setuid`, 'su', 'nobody-of-this-name')).output,
  };

  await using changed = await open(`${merged}/data/05`, 'r');
  await changed.chmod(0o4711);
  results.written = {
    mode: (await stat(`${merged}/data/05`)).mode & 0o7777,
    sum: await sumOf(`${merged}/data/05`),
  };

  log.info('the server stops');
  await dropCaches();
  await host('stop-server');
  const waiting = performance.now();
  const asked = performance.now();
  const folder = (async () => {
    // By now the last look is too old to be relied on.
    await until('a stale look', () => seconds(asked) > 1.5);
    const from = performance.now();
    return { folder: (await nfs.folder()) ?? null, seconds: seconds(from) };
  })();
  const { ok, output } = await run('cat', `${merged}/data/09`);
  const silent = await folder;
  results.silent = {
    failed: ok ? 'it was read' : output,
    seconds: seconds(waiting),
    folder: silent.folder,
    folderSeconds: silent.seconds,
    state: nfs.status().state,
    ended: nfs.status().ended,
  };
  await host('continue-server');
  results.back = { state: (await settled(nfs, 'trusted')).state, sums: await sums() };

  log.info('the server is killed');
  await dropCaches();
  const again = sums();
  await host('kill-server');
  results.killed = { sums: await again, state: (await settled(nfs, 'trusted')).state };

  log.info('the driver ends, the server stops, the driver starts again');
  await nfs[Symbol.asyncDispose]();
  const kept = findMount(paths.nfs) !== undefined;
  await dropCaches();
  await host('stop-server');
  const reader = run('cat', `${merged}/data/09`);
  await using next = nodeMount(paths.nfs, facts.manager, '4.1');
  const since = performance.now();
  const ended = await reader;
  const outcome = { kept, failed: ended.ok ? 'it was read' : ended.output, seconds: seconds(since) };
  await host('continue-server');
  const { state: after, mounts } = await settled(next, 'trusted');
  results.again = { ...outcome, mounts, state: after, sums: await sums() };

  log.info('another version, another store');
  await using zeros = nodeMount('/zeros/objects', facts.manager, '4.2');
  results.zeros = {
    ...pick(await settled(zeros, 'trusted', 'refused', 'off')),
    isMounted: findMount('/zeros/objects') !== undefined,
  };
  await using liar = nodeMount('/liar/objects', facts.liar, '4.1');
  results.liar = {
    ...pick(await settled(liar, 'trusted', 'refused', 'off')),
    isMounted: findMount('/liar/objects') !== undefined,
  };

  await unmount(merged, { detach: true });
}

function pick({ state, reason }: { state: string; reason: string }): { state: string; reason: string } {
  return { state, reason };
}

try {
  await steps();
  results.end = { isMounted: findMount(nodePaths(ROOT).nfs) !== undefined };
} catch (error) {
  results.error = error instanceof Error ? (error.stack ?? error.message) : String(error);
}
await host('results', results);
process.exit(results.error === undefined ? 0 : 1);
