import { lookup } from 'node:dns/promises';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type Abortable, sleep } from '#core/abort.ts';
import { digestOf } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
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

interface Held extends AsyncDisposable {
  readonly facts: ExportFacts;
  readonly mount: NfsMount;
}

/**
 * The manager's export, mounted by the kernel for the data layers of views. Known content is read back through it before it is used, and again
 * after every silence. Whatever may wait for the server is done by processes of its own, with deadlines.
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
  #silentSince: number | undefined;
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
    await this.#drop();
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
    try {
      if (this.#held !== undefined && findNfsMount(this.#options.target) === undefined) await this.#drop();
      if (this.#held === undefined) {
        // What an earlier driver left, or another put there: containers that have it keep it.
        await detachNfs(this.#options.target, { timeout: CALL_MS, signal: this.#stop.signal });
        await this.#mount();
      } else await this.#check(this.#held, this.#status.state !== 'trusted');
      this.#checkedAt = performance.now();
      this.#silentSince = undefined;
      this.#set('trusted', '');
    } catch (error) {
      if (!this.#stop.signal.aborted) await this.#failed(error);
    }
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
    // So that the mount stays when its waiting requests are ended. Opening it asks no server, closing it neither.
    stack.use(await open(target, O_PATH));
    const release = stack.move();
    this.#held = { facts, mount, [Symbol.asyncDispose]: () => release.disposeAsync() };
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

  async #failed(error: unknown): Promise<void> {
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
      else await this.#endReads();
    }
  }

  /** Past the deadline nobody waits for a silent server any longer. */
  async #endReads(): Promise<void> {
    if (this.#held === undefined) return;
    this.#silentSince ??= performance.now();
    if (performance.now() - this.#silentSince + INTERVAL < this.#options.deadline) return;
    this.#ended++;
    await endNfsRequests(this.#options.target, { timeout: CALL_MS }).catch((err: unknown) =>
      this.#options.log.warn({ err }, 'reads that wait for the NFS server could not be ended'),
    );
  }

  async #drop(): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    const done = held === undefined ? undefined : Promise.resolve(held[Symbol.asyncDispose]());
    await done?.catch((err: unknown) =>
      this.#options.log.error({ err, target: this.#options.target }, 'NFS not unmounted'),
    );
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
