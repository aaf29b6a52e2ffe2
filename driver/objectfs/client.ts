import { closeSync, openSync } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { type Abortable, deadline, sleep } from '#core/abort.ts';
import type { Digest } from '#core/digest.ts';
import { GearError, isErrno, isGearError, orUndefined } from '#core/errors.ts';
import { KeyedLock } from '#core/keyed-lock.ts';
import type { Logger } from '#core/log.ts';
import { VERSION } from '#core/version.ts';
import { CacheLayout } from '../cache/layout.ts';
import { recoverCaches } from '../cache/recover.ts';
import { unmount } from '../kernel/mount.ts';
import { findMount } from '../kernel/mount-info.ts';
import { compileCacheFolder, warmCompileCache } from './compile-cache.ts';
import { callControl, checkSocketPath } from './control.ts';
import type { ObjectFilesystem, ObjectFilesystemSettings, ObjectFilesystemStats, TouchReport } from './interface.ts';
import { endLeftovers, findProcesses } from './leftovers.ts';
import { isRunning, processId, scriptOf, startProcess } from './processes.ts';
import { type ObjectfsFiles, objectfsFiles } from './session.ts';
import { completeSettings, writeSettings } from './settings.ts';

export type { ObjectFilesystem, ObjectFilesystemSettings, ObjectFilesystemStats } from './interface.ts';

/** A server that was killed is replaced in a fraction of this. */
const ADOPT_MS = 10_000;
const START_MS = 20_000;
const CALL_MS = 10_000;

export interface EnsureOptions extends Abortable {
  /** The node's root, absolute. */
  readonly root: string;
  readonly settings: ObjectFilesystemSettings;
  readonly log: Logger;
}

const starting = new KeyedLock<string>();

/**
 * Gives the node's object filesystem: the one that runs, with these settings from now on, or a new one in place of one that is dead or was never there.
 * Needs no manager. Touches the mount neither now nor later: a call that waited for it would wait in one of this process's few threads. Throws
 * failed-precondition where it cannot be mounted.
 */
export async function ensureObjectFilesystem(options: EnsureOptions): Promise<ObjectFilesystem> {
  const { root, settings, log, signal } = options;
  if (!isAbsolute(root)) throw new GearError('invalid-argument', `the root has to be an absolute path, not ${root}`);
  const layout = new CacheLayout(root);
  const files = objectfsFiles(layout.paths);
  checkSocketPath(files.socket);
  using _lock = await starting.acquire(root, { signal });
  for (const folder of [layout.paths.run, layout.paths.images]) await mkdir(folder, { recursive: true, mode: 0o700 });
  const mounted = findMount(layout.paths.remote)?.type === 'fuse.gear';
  const adopted = mounted && (await adopt(root, files, settings, log, signal));
  if (!adopted) await start(layout, files, options, mounted);
  return new Client(layout, files, adopted);
}

/** Whether the object filesystem that is mounted is alive; it then has the settings. */
async function adopt(
  root: string,
  files: ObjectfsFiles,
  settings: ObjectFilesystemSettings,
  log: Logger,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    let facts = await answering(files, ADOPT_MS, signal, aliveFor(root));
    if (facts.version !== VERSION) {
      log.info({ from: facts.version, to: VERSION }, 'the object filesystem gets the newer code');
      await callControl(files.socket, 'replace', { script: scriptOf('server') }, { signal: limit(CALL_MS, signal) });
      await gone(facts.server, signal);
      facts = await answering(files, ADOPT_MS, signal);
    }
    await callControl(files.socket, 'configure', settings, { signal: limit(CALL_MS, signal) });
    log.info({ supervisor: facts.supervisor, server: facts.server }, 'object filesystem adopted');
    return true;
  } catch (error) {
    signal?.throwIfAborted();
    if (!isGearError(error, 'deadline-exceeded', 'unavailable')) throw error;
    log.warn({ err: error }, 'the object filesystem is mounted and dead');
    return false;
  }
}

async function start(
  layout: CacheLayout,
  files: ObjectfsFiles,
  options: EnsureOptions,
  mounted: boolean,
): Promise<void> {
  const { root, settings, log, signal } = options;
  const { remote } = layout.paths;
  await endLeftovers(root, log);
  if (mounted) log.warn({ remote }, 'unmounting what is dead; containers that still read from it get errors');
  while (findMount(remote) !== undefined) await unmount(remote, { detach: true });
  await mkdir(remote, { recursive: true, mode: 0o700 });
  await recoverCaches(layout, log, { signal });
  await rm(files.socket, { force: true });
  await warmCompileCache(layout.paths);
  writeSettings(files.settings, completeSettings(settings));
  const logFd = openSync(files.log, 'a', 0o600);
  const started = processId(startSupervisor(layout, logFd));
  try {
    await answering(files, START_MS, signal, () => started !== undefined && isRunning(started));
  } catch (error) {
    signal?.throwIfAborted();
    throw new GearError(
      'failed-precondition',
      `the object filesystem does not start at ${remote} (is there a /dev/fuse, and is this root?); ${files.log} ends with:\n${await tail(files.log)}`,
      { cause: error },
    );
  }
}

function startSupervisor(layout: CacheLayout, logFd: number): number {
  const { paths } = layout;
  try {
    const child = startProcess('supervisor', {
      args: [paths.root],
      log: logFd,
      compileCache: compileCacheFolder(paths),
    });
    child.on('error', () => {});
    return child.pid ?? 0;
  } finally {
    closeSync(logFd);
  }
}

interface Hello {
  readonly version: string;
  readonly server: number;
  readonly supervisor: number;
}

/** Waits until the server answers. Gives up early when `alive` says that nobody will. */
async function answering(
  files: ObjectfsFiles,
  milliseconds: number,
  signal: AbortSignal | undefined,
  alive: () => boolean = () => true,
): Promise<Hello> {
  const limited = limit(milliseconds, signal);
  for (;;) {
    try {
      return (await callControl(files.socket, 'hello', undefined, { signal: limited })) as Hello;
    } catch (error) {
      if (!isGearError(error, 'unavailable') || !alive()) throw error;
    }
    await sleep(20, { signal: limited });
  }
}

/** Whether any of the processes is there, looked up every now and then. */
function aliveFor(root: string): () => boolean {
  let lookAgain = performance.now() + 500;
  return () => {
    if (performance.now() < lookAgain) return true;
    lookAgain = performance.now() + 500;
    return findProcesses(root).length > 0;
  };
}

async function gone(pid: number, signal: AbortSignal | undefined): Promise<void> {
  const id = processId(pid);
  const limited = limit(ADOPT_MS, signal);
  while (id !== undefined && isRunning(id)) await sleep(20, { signal: limited });
}

function limit(milliseconds: number, signal: AbortSignal | undefined): AbortSignal {
  return deadline(milliseconds, 'the object filesystem', signal);
}

async function tail(file: string): Promise<string> {
  const handle = await orUndefined(open(file, 'r'), 'ENOENT');
  if (handle === undefined) return '';
  await using opened = handle;
  const { size } = await opened.stat();
  const buffer = Buffer.alloc(2000);
  const { bytesRead } = await opened.read(buffer, 0, buffer.length, Math.max(0, size - buffer.length));
  return buffer.toString('utf8', 0, bytesRead);
}

class Client implements ObjectFilesystem {
  readonly #layout: CacheLayout;
  readonly #files: ObjectfsFiles;
  readonly adopted: boolean;

  constructor(layout: CacheLayout, files: ObjectfsFiles, adopted: boolean) {
    this.#layout = layout;
    this.#files = files;
    this.adopted = adopted;
  }

  get mountPoint(): string {
    return this.#layout.paths.remote;
  }

  imageFolder(image: Digest): string {
    return join(this.#layout.paths.remote, image);
  }

  treeFolder(image: Digest): string {
    return join(this.#layout.paths.remote, 'tree', image);
  }

  async privateFolder(image: Digest): Promise<string> {
    const folder = this.#layout.privateFolder(image);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  async stats({ signal }: Abortable = {}): Promise<ObjectFilesystemStats> {
    return (await this.#call('stats', undefined, signal)) as ObjectFilesystemStats;
  }

  async configure(settings: Partial<ObjectFilesystemSettings>, { signal }: Abortable = {}): Promise<void> {
    await this.#call('configure', settings, signal);
  }

  async fill(image: Digest, { signal }: Abortable = {}): Promise<void> {
    await this.#call('fill', { image }, signal);
  }

  async prefetch(image: Digest, { signal }: Abortable = {}): Promise<void> {
    await this.#call('prefetch', { image }, signal);
  }

  async prefetchEarly(image: Digest, table: string, { signal }: Abortable = {}): Promise<void> {
    await this.#call('prefetchEarly', { image, table }, signal);
  }

  async takeTouches({ signal }: Abortable = {}): Promise<TouchReport[]> {
    return (await this.#call('touches', undefined, signal)) as TouchReport[];
  }

  async stop({ signal }: Abortable = {}): Promise<void> {
    const { server, supervisor } = (await this.#call('hello', undefined, signal)) as Hello;
    await this.#call('stop', undefined, signal);
    await gone(server, signal);
    await gone(supervisor, signal);
    await rm(this.#files.socket, { force: true });
  }

  // A server that was killed a moment ago is replaced at once, so its absence is no error yet.
  async #call(method: string, params: unknown, signal: AbortSignal | undefined): Promise<unknown> {
    const limited = limit(CALL_MS, signal);
    for (;;) {
      try {
        return await callControl(this.#files.socket, method, params, { signal: limited });
      } catch (error) {
        if (!isGearError(error, 'unavailable') || isErrno(error.cause, 'EACCES', 'EPERM')) throw error;
      }
      await sleep(50, { signal: limited });
    }
  }
}
