import { closeSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { temporaryName } from '#core/atomic-file.ts';
import { type Digest, parseDigest } from '#core/digest.ts';
import { GearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { VERSION } from '#core/version.ts';
import type { CacheLayout } from '../cache/layout.ts';
import { ObjectCache } from '../cache/object-cache.ts';
import type { Channel } from '../kernel/fuse/channel.ts';
import { Protocol } from '../kernel/fuse/protocol.ts';
import { Prefetcher } from '../prefetch/prefetcher.ts';
import { type ManagerSource, managerSource } from '../remote/manager-source.ts';
import { PatientSource } from '../remote/patient-source.ts';
import { serveControl } from './control.ts';
import { backingDevice, DirectOpens } from './direct-opens.ts';
import { Filler } from './filler.ts';
import { ImageEntries } from './image-entries.ts';
import type { ObjectFilesystemSettings, ObjectFilesystemStats } from './interface.ts';
import { Learning } from './learning.ts';
import { ObjectAccess } from './object-access.ts';
import { ObjectFileSystem } from './object-file-system.ts';
import { FUSE_FD } from './processes.ts';
import { RootFileSystem } from './root-file-system.ts';
import { type ObjectfsFiles, readSession, type Session, writeSession } from './session.ts';
import { changeSettings, type Settings, writeSettings } from './settings.ts';
import { TreeFileSystem } from './tree-file-system.ts';

/** Nobody has waited for bytes from afar for so long: the node is idle. */
const IDLE_MS = 10_000;

/** What the service cannot do alone. */
export interface ProcessControl {
  supervisor(): number;
  stop(): Promise<void>;
  replace(script: string | undefined): void;
}

export interface ServiceOptions {
  readonly layout: CacheLayout;
  readonly files: ObjectfsFiles;
  readonly settings: Settings;
  readonly channel: Channel;
  readonly log: Logger;
  readonly refuseResent: boolean;
  readonly control: ProcessControl;
}

/** All that the server process is made of. */
export class Service {
  readonly #options: ServiceOptions;
  readonly #log: Logger;
  readonly #images: ImageEntries;
  readonly #cache: ObjectCache;
  readonly #opens: DirectOpens;
  readonly #protocol: Protocol;
  readonly #remote: PatientSource;
  readonly #filler: Filler;
  readonly #prefetcher: Prefetcher;
  readonly #learning: Learning;
  #source: ManagerSource;
  #settings: Settings;
  #session: Session;
  #ended: Promise<void> | undefined;

  constructor(options: ServiceOptions) {
    const { layout, files, settings, channel, log } = options;
    this.#options = options;
    this.#log = log;
    this.#settings = settings;
    this.#session = readSession(files.session);
    this.#source = managerSource(settings.manager, settings.fetch, log, settings.access);
    this.#remote = new PatientSource(this.#source, { log });
    this.#cache = new ObjectCache({ layout, remote: this.#remote, log, cacheSize: settings.cacheSize });
    this.#images = new ImageEntries(layout.paths, log);
    this.#filler = new Filler(
      this.#cache,
      (image) => this.#images.byName(image),
      log,
      () => this.#fillWaits(),
    );
    this.#opens = new DirectOpens(backingDevice(FUSE_FD), files.opens, log);
    this.#prefetcher = new Prefetcher({
      cache: this.#cache,
      layout,
      manager: settings.manager,
      access: settings.access,
      log,
      find: (image) => this.#images.byName(image),
      audit: () => this.#settings.audit,
    });
    this.#learning = new Learning({
      layout,
      prefetcher: this.#prefetcher,
      limits: () => ({ longest: this.#settings.recordLongest, idle: this.#settings.recordIdle }),
      isOn: () => this.#settings.prefetch,
    });
    const access = new ObjectAccess({
      cache: this.#cache,
      learning: this.#learning,
      opens: this.#opens,
      log,
      deadline: () => this.#settings.deadline,
      passthrough: () => this.#passthrough(),
    });
    const objects = new ObjectFileSystem({ images: this.#images, access, folder: layout.paths.public });
    const trees = new TreeFileSystem({
      images: this.#images,
      access,
      folder: layout.paths.images,
      statistics: () => objects.statistics(),
    });
    const fileSystem = new RootFileSystem(objects, trees);
    this.#protocol = new Protocol({
      fileSystem,
      send: (pieces) => channel.send(pieces),
      log,
      onInit: (negotiated) => this.#remember({ negotiated }),
      refuseResent: options.refuseResent,
    });
  }

  /** Settles when the mount is gone. */
  get ended(): Promise<void> {
    return this.#ended ?? Promise.reject(new GearError('failed-precondition', 'not started'));
  }

  /** Answers the kernel from now on, and whoever connects to the socket. */
  async start(): Promise<void> {
    this.#ended = this.#options.channel
      .serve((message) => void this.#protocol.handle(message))
      .then(() => this.#protocol.calls.abortAll());
    this.#ended.catch(() => {});
    const { control, files } = this.#options;
    await serveControl(
      files.socket,
      {
        hello: () => ({ version: VERSION, server: process.pid, supervisor: control.supervisor() }),
        stats: () => this.stats(),
        configure: (params) => this.#configure(params as Partial<ObjectFilesystemSettings>),
        fill: (params) => this.#filler.request(imageOf(params)),
        prefetch: (params) => this.#learning.prefetch(imageOf(params)),
        prefetchEarly: (params) => this.#learning.prefetchEarly(imageOf(params), (params as { table: string }).table),
        touches: () => this.#learning.take(),
        stop: () => control.stop(),
        replace: (params) => control.replace((params as { script?: string } | null)?.script),
      },
      this.#log,
    );
    this.#cache.evictor.count().catch((err: unknown) => this.#log.warn({ err }, 'the caches could not be counted'));
  }

  /** Every few seconds. */
  tick(): void {
    void this.flush();
    this.#learning.tidy(this.#images.used());
    try {
      this.#opens.compact();
    } catch (err) {
      this.#log.warn({ err }, 'record of open files not compacted');
    }
  }

  async flush(): Promise<void> {
    try {
      await this.#cache.mark.flush();
    } catch (err) {
      this.#log.warn({ err }, 'caches not flushed');
    }
  }

  stats(): ObjectFilesystemStats {
    const { fetcher, evictor } = this.#cache;
    const images = this.#images.used().map((entry) => ({ ...entry.stats(), startUp: this.#learning.stats(entry) }));
    return {
      version: VERSION,
      supervisor: this.#options.control.supervisor(),
      server: process.pid,
      startedAt: this.#session.startedAt,
      passthrough: this.#session.passthrough ?? this.#session.negotiated?.passthrough ?? false,
      settings: this.#settings,
      images,
      inFlight: this.#protocol.calls.size,
      oldestMilliseconds: Math.round(this.#protocol.calls.oldestMilliseconds),
      openPassthrough: this.#opens.size,
      fetches: fetcher.fetches,
      fetchedObjects: fetcher.fetchedObjects,
      fetchedBytes: fetcher.fetchedBytes,
      demandBytes: fetcher.demandBytes,
      lastDemandAt: fetcher.lastDemandAt,
      joinedChunks: fetcher.joined,
      prefetchedBytes: this.#prefetcher.bytes,
      prefetchedWireBytes: this.#prefetcher.wireBytes,
      mismatches: fetcher.mismatches,
      errors: images.reduce((sum, { errors }) => sum + errors, 0),
      cacheBytes: evictor.bytes,
      evictedObjects: evictor.evictedObjects,
      evictedBytes: evictor.evictedBytes,
      managerAway: this.#remote.away,
      managerAwayReason: this.#remote.awayReason,
      fetch: this.#source.stats(),
      filling: this.#filler.current,
      residentBytes: process.memoryUsage.rss(),
    };
  }

  #configure(change: Partial<ObjectFilesystemSettings>): void {
    const settings = changeSettings(this.#settings, change);
    const isOther = (key: 'manager' | 'access') => !isDeepStrictEqual(settings[key], this.#settings[key]);
    if (isOther('manager') || isOther('access')) {
      const before = this.#source;
      this.#source = managerSource(settings.manager, settings.fetch, this.#log, settings.access);
      this.#remote.replace(this.#source);
      before[Symbol.dispose]();
      this.#prefetcher.askAnother(settings.manager, settings.access);
    }
    this.#source.choice = settings.fetch;
    this.#settings = settings;
    this.#log.level = settings.logLevel;
    this.#cache.evictor.limit = settings.cacheSize;
    writeSettings(this.#options.files.settings, settings);
    this.#log.info({ settings }, 'configured');
  }

  /** Whether filling has to wait for what goes first. */
  #fillWaits(): boolean {
    if (this.#prefetcher.running.length > 0) return true;
    if (this.#settings.fill === 'eager') return false;
    return this.#cache.fetcher.waiting > 0 || Date.now() - this.#cache.fetcher.lastDemandAt < IDLE_MS;
  }

  /** Whether complete objects are read past us. Tried once for a mount: what a node id means hangs on it. */
  #passthrough(): boolean {
    const known = this.#session.passthrough;
    if (known !== undefined) return known;
    const passthrough = this.#session.negotiated?.passthrough === true && this.#tryPassthrough();
    this.#remember({ passthrough });
    return passthrough;
  }

  #tryPassthrough(): boolean {
    const file = join(this.#options.layout.partial, temporaryName());
    const device = backingDevice(FUSE_FD);
    const fd = openSync(file, 'wx+', 0o400);
    try {
      device.close(device.open(fd));
      return true;
    } catch (error) {
      this.#log.warn(`no passthrough: ${messageOf(error)}; complete objects are read through this process`);
      return false;
    } finally {
      closeSync(fd);
      rmSync(file, { force: true });
    }
  }

  // Written before anything is answered that depends on it.
  #remember(facts: Partial<Session>): void {
    this.#session = { ...this.#session, ...facts };
    writeSession(this.#options.files.session, this.#session);
  }
}

/** Throws invalid-argument. */
function imageOf(params: unknown): Digest {
  return parseDigest(String((params as { image?: unknown } | null)?.image));
}
