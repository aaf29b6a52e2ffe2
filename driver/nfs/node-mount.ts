import { lookup } from 'node:dns/promises';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Abortable, sleep } from '#core/abort.ts';
import { digestOf } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
import { isOverlayLayer } from '../kernel/mount-info.ts';
import {
  detachNfs,
  endNfsRequests,
  findNfsMount,
  mountNfs,
  type NfsMount,
  type NfsVersion,
  readBack,
} from '../kernel/nfs-mount.ts';
import { describeExport, type ExportFacts } from '../remote/export-facts.ts';
import type { SourceState } from '../remote/source.ts';
import { leftMount, noteMount } from './left-mount.ts';

const MOUNT_MS = 15_000;
const CHECK_MS = 5_000;
const CALL_MS = 3_000;
/** Milliseconds between two looks, and before a manager is asked again whose export was refused. */
const INTERVAL = 5_000;
const REFUSED_INTERVAL = 60_000;
/** How old a look may be that a new view relies on. */
const FRESH = 1_000;
const O_PATH = 0o10000000;

export interface NodeMountOptions {
  /** Where it is mounted; made where it is missing. */
  readonly target: string;
  /** "host:port" of the manager's gRPC. */
  readonly manager: string;
  readonly access?: Access;
  readonly version: NfsVersion;
  readonly connections?: number | undefined;
  readonly readSize?: number | undefined;
  /** Milliseconds after which reads that wait for a silent server are ended. */
  readonly deadline: number;
  readonly log: Logger;
}

/** How the mount is doing. */
export interface NodeMountStatus {
  readonly state: SourceState['kind'];
  readonly reason: string;
  /** "host:port" and version of what is mounted. */
  readonly server: string | undefined;
  readonly version: NfsVersion;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** How often the mount was made, and how often reads that waited too long were ended. */
  readonly mounts: number;
  readonly ended: number;
}

interface Held {
  readonly facts: ExportFacts;
  readonly mount: NfsMount;
  /** So that the mount stays when its waiting requests are ended. Opening it asks no server, closing it neither. */
  readonly handle: FileHandle;
  /** Whether the manager has been heard to export this still; a mount that an earlier driver left may be of what it exported then. */
  isCurrent: boolean;
}

/**
 * The manager's export, mounted by the kernel for the data layers of views. Known content is read back through it before it is used, and again
 * after every silence. Whatever may wait for the server is done by processes of its own, with deadlines. What containers read from is left mounted at
 * the end and taken over by the next driver: only through a mount can their reads be ended.
 */
export class NodeMount implements AsyncDisposable {
  readonly #options: NodeMountOptions;
  readonly #stop = new AbortController();
  #held: Held | undefined;
  #status: { state: SourceState['kind']; reason: string; since: number } = {
    state: 'untried',
    reason: '',
    since: Date.now(),
  };
  #checkedAt = Number.NEGATIVE_INFINITY;
  /** When the look began that found the server silent, and what waits for the deadline of reads since then. */
  #silentSince: number | undefined;
  #endTimer: NodeJS.Timeout | undefined;
  #ending: Promise<void> | undefined;
  #mounts = 0;
  #ended = 0;
  #looking: Promise<void> | undefined;
  readonly #loop: Promise<void>;

  /** Begins to look after the mount. Needs no network. */
  constructor(options: NodeMountOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  /** The folder with the objects, if it can be relied on at this moment. */
  async folder(): Promise<string | undefined> {
    const isFresh = performance.now() - this.#checkedAt < FRESH;
    if (!isFresh && (this.#status.state === 'trusted' || this.#status.state === 'untried')) await this.look();
    return this.#status.state === 'trusted' ? this.#options.target : undefined;
  }

  status(): NodeMountStatus {
    const { server } = this.#held?.mount ?? {};
    return {
      ...this.#status,
      server: server === undefined ? undefined : `${server.host}:${server.port}`,
      version: this.#options.version,
      mounts: this.#mounts,
      ended: this.#ended,
    };
  }

  /** Looks at the mount now, makes it where it is not there; never throws, never takes longer than the deadlines of its parts. */
  async look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new GearError('cancelled', 'the driver is stopping'));
    await this.#loop;
    await this.#looking;
    await this.#drop({ keep: isOverlayLayer(this.#options.target) });
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.look();
      const isRefused = this.#status.state === 'refused' || this.#status.state === 'off';
      await sleep(isRefused ? REFUSED_INTERVAL : INTERVAL, { signal }).catch(() => {});
    }
  }

  async #look(): Promise<void> {
    const began = performance.now();
    try {
      if (this.#held !== undefined && findNfsMount(this.#options.target) === undefined) await this.#drop();
      this.#held ??= await this.#takeOver();
      if (this.#held?.isCurrent === false) await this.#compare(this.#held);
      if (this.#held === undefined) {
        // Of another export, with other options, or another's: containers that have it keep it.
        await detachNfs(this.#options.target, { timeout: CALL_MS, signal: this.#stop.signal });
        await this.#mount();
      } else await this.#check(this.#held, this.#status.state !== 'trusted');
      this.#checkedAt = performance.now();
      this.#heard();
      this.#set('trusted', '');
    } catch (error) {
      if (!this.#stop.signal.aborted) await this.#failed(error, began);
    }
  }

  /** What an earlier driver left mounted, if this one would mount it so. Asks no server. */
  async #takeOver(): Promise<Held | undefined> {
    const { target, log } = this.#options;
    const left = await leftMount(target, this.#wanted());
    if (left === undefined) return undefined;
    const handle = await open(target, O_PATH);
    log.info({ server: left.mount.server, target }, 'the NFS mount that an earlier driver left is taken over');
    return { ...left, handle, isCurrent: false };
  }

  /** A manager that cannot be asked is no reason to give up a mount. */
  async #compare(held: Held): Promise<void> {
    const { manager, access } = this.#options;
    const facts = await describeExport(manager, { signal: this.#stop.signal, access }).catch(() => undefined);
    if (facts === undefined) return;
    held.isCurrent = isDeepStrictEqual(facts, held.facts);
    if (!held.isCurrent) await this.#drop();
  }

  #wanted() {
    const { manager, version, connections, readSize } = this.#options;
    return { manager, version, connections, readSize };
  }

  async #mount(): Promise<void> {
    const { target, manager, access, version, connections, readSize, log } = this.#options;
    const { signal } = this.#stop;
    const facts = await describeExport(manager, { signal, access });
    if (!facts.versions.includes(version)) {
      throw new GearError(
        'failed-precondition',
        `manager ${manager} exports NFS ${facts.versions.join(', ')}, not ${version}`,
      );
    }
    const { address } = await lookup(facts.server.host);
    const mount = { server: { ...facts.server, host: address }, path: facts.path, version, connections, readSize };
    await using stack = new AsyncDisposableStack();
    await mkdir(target, { recursive: true, mode: 0o755 });
    stack.defer(async () => await detachNfs(target, { timeout: CALL_MS }));
    await mountNfs(target, mount, { timeout: MOUNT_MS, signal });
    await this.#verify(facts, { signal });
    await noteMount(target, this.#wanted(), { facts, mount }).catch((err: unknown) =>
      log.warn({ err, target }, 'not written down: a later driver will not take this mount over'),
    );
    this.#held = { facts, mount, handle: await open(target, O_PATH), isCurrent: true };
    stack.move();
    this.#mounts++;
    log.info({ server: mount.server, path: facts.path, version, target }, 'NFS mounted; known content reads right');
  }

  /** Whether the server answers; after a silence also whether it is still the right one. Throws. */
  async #check({ facts }: Held, wholly: boolean): Promise<void> {
    if (wholly) await this.#verify(facts, { signal: this.#stop.signal });
    else await this.#read(facts, 'direct', { signal: this.#stop.signal });
  }

  async #verify(facts: ExportFacts, options: Abortable): Promise<void> {
    for (const how of ['cached', 'direct'] as const) await this.#read(facts, how, options);
  }

  async #read({ probe, path }: ExportFacts, how: 'cached' | 'direct', { signal }: Abortable): Promise<void> {
    const file = join(this.#options.target, probe.path);
    const bytes = await readBack(file, probe.size, how, { timeout: CHECK_MS, signal });
    const found = digestOf(bytes);
    if (found === probe.digest) return;
    const isZeros = bytes.length > 0 && bytes.every((byte) => byte === 0);
    const looks = isZeros ? 'all zeros' : `digest ${found}`;
    throw new GearError(
      'corrupt',
      `${path}/${probe.path} read back through NFS ${this.#options.version} (${how}): ${bytes.length} bytes, ${looks}; the manager says ${probe.size} bytes, digest ${probe.digest}`,
    );
  }

  async #failed(error: unknown, began: number): Promise<void> {
    const said = isGearError(error) ? String(error.fields['said'] ?? '') : '';
    // Where known content cannot even be read after mounting, it is no better than with wrong bytes.
    const wrong = this.#held === undefined ? /Input\/output error/ : /^$/;
    const isOther = /No such file|Not a directory|Permission denied|not permitted/.test(said);
    if (isGearError(error, 'corrupt') || isOther || (said !== '' && wrong.test(said))) {
      this.#set('refused', `not the store of this manager, or not its bytes: ${messageOf(error)}`);
      await this.#drop();
    } else if (/unknown filesystem type|No such device/.test(said)) {
      this.#set('off', 'this kernel has no NFS client (modprobe nfsv4)');
    } else if (isGearError(error, 'failed-precondition') && this.#held === undefined && said === '') {
      this.#set('off', messageOf(error));
    } else {
      this.#set('away', messageOf(error));
      if (/Stale/.test(said)) await this.#drop();
      else this.#silent(began);
    }
  }

  /** Past the deadline nobody waits for a silent server any longer: the reads of now are ended then, later ones by later looks. */
  #silent(since: number): void {
    if (this.#held === undefined) return;
    this.#silentSince ??= since;
    const left = this.#silentSince + this.#options.deadline - performance.now();
    if (left <= 0) this.#endReads();
    else this.#endTimer ??= setTimeout(() => this.#endReads(), left);
  }

  #heard(): void {
    clearTimeout(this.#endTimer);
    this.#endTimer = undefined;
    this.#silentSince = undefined;
  }

  #endReads(): void {
    this.#ended++;
    this.#ending ??= endNfsRequests(this.#options.target, { timeout: CALL_MS })
      .catch((err: unknown) => this.#options.log.warn({ err }, 'reads that wait for the NFS server could not be ended'))
      .finally(() => {
        this.#ending = undefined;
      });
  }

  async #drop({ keep = false }: { keep?: boolean } = {}): Promise<void> {
    const { target, log } = this.#options;
    this.#heard();
    // It relies on the handle.
    await this.#ending;
    const held = this.#held;
    this.#held = undefined;
    if (held === undefined) return;
    try {
      await held.handle.close();
      if (!keep) await detachNfs(target, { timeout: CALL_MS });
    } catch (err) {
      log.error({ err, target }, 'NFS not unmounted');
    }
  }

  #set(state: SourceState['kind'], reason: string): void {
    const before = this.#status;
    if (before.state === state && before.reason === reason) return;
    this.#status = { state, reason, since: before.state === state ? before.since : Date.now() };
    if (before.state === state) return;
    const level = state === 'trusted' || state === 'off' ? 'info' : 'warn';
    this.#options.log[level]({ reason, before: before.state }, `NFS mount: ${state}`);
  }
}
