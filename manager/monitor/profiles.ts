import { statSync } from 'node:fs';
import type { Abortable } from '#core/abort.ts';
import { type Digest, ociDigest } from '#core/digest.ts';
import { GearError, isErrno, messageOf } from '#core/errors.ts';
import { decodeIndex } from '#core/index/encode.ts';
import type { Logger } from '#core/log.ts';
import type { Store } from '../catalog/store.ts';
import { parseReference } from '../registry/reference.ts';
import type { ImageRecord } from '../store/record.ts';
import { Profile, type ProfileItem, type TouchedChunk } from './profile.ts';
import { inheritProfile } from './profile-inherit.ts';
import { Pack, writePack } from './profile-pack.ts';
import type { Piece } from './profile-pieces.ts';
import { isFresh } from './profile-plan.ts';
import { ProfileStore } from './profile-store.ts';

/** A profile that is not of an index here (layers that are mounted together) goes when nobody has reported it for this long. */
const FORGOTTEN = 60 * 24 * 3_600_000;
/** Images of a repository that are looked at for a predecessor. */
const PREDECESSORS = 500;
/** Others report at the same moment: the content is prepared when that has calmed down. */
const PREPARE_AFTER = 500;

/** A report of a node, its touches not yet checked. */
export interface Report {
  readonly image: Digest;
  readonly chunkSize: number;
  readonly touches: readonly { readonly digest: Digest; readonly chunk: number; readonly milliseconds: number }[];
  readonly first: boolean;
  readonly complete: boolean;
}

/** The start-up profiles of a store's images, and their content prepared for nodes. */
export class Profiles implements AsyncDisposable {
  readonly #store: Store;
  readonly #profiles: ProfileStore;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #due = new Map<Digest, NodeJS.Timeout>();
  #working: Promise<void> = Promise.resolve();

  private constructor(store: Store, profiles: ProfileStore, log: Logger) {
    this.#store = store;
    this.#profiles = profiles;
    this.#log = log.child({ part: 'profiles' });
    profiles.onChange = (profile) => this.#prepareSoon(profile.image);
  }

  static async open(store: Store, log: Logger): Promise<Profiles> {
    const profiles = await ProfileStore.open(store.layout.profiles, log);
    const hasIndex = (image: Digest) => statSync(store.layout.index(image), { throwIfNoEntry: false }) !== undefined;
    await profiles.sweep(hasIndex, FORGOTTEN);
    return new Profiles(store, profiles, log);
  }

  get size(): number {
    return this.#profiles.size;
  }

  /** Takes in what a node reports. Touches of what the store does not have are left out. */
  async report({ image, chunkSize, touches, first, complete }: Report, { signal }: Abortable = {}): Promise<void> {
    const create = () =>
      new Profile({ image, chunkSize, runs: 0, inheritedFrom: undefined, updatedAt: Date.now() }, []);
    const merge = async (profile: Profile) => {
      if (profile.chunkSize !== chunkSize) {
        throw new GearError(
          'failed-precondition',
          `image ${ociDigest(image)} was learned in chunks of ${profile.chunkSize} bytes, not ${chunkSize}`,
        );
      }
      const known: TouchedChunk[] = [];
      for (const touch of touches) {
        const bytes = profile.find(`${touch.digest}/${touch.chunk}`)?.bytes ?? (await this.#bytesOf(touch, chunkSize));
        if (bytes !== undefined) known.push({ ...touch, bytes });
      }
      profile.merge({ touches: known, first, complete });
    };
    await this.#profiles.change(image, create, merge, { signal });
  }

  async find(image: Digest, options: Abortable = {}): Promise<Profile | undefined> {
    return await this.#profiles.find(image, options);
  }

  /** Throws not-found. */
  async get(image: Digest, options: Abortable = {}): Promise<Profile> {
    const profile = await this.find(image, options);
    if (profile !== undefined) return profile;
    throw new GearError(
      'not-found',
      `image ${ociDigest(image)}: no start-up profile yet; it is learned from its first start`,
    );
  }

  /** Puts a profile in the place of the one that is there. Throws not-found naming an object that the store does not have. */
  async put(profile: Profile): Promise<void> {
    for (const item of profile.items()) {
      const bytes = await this.#bytesOf(item, profile.chunkSize);
      if (bytes === item.bytes) continue;
      throw new GearError('not-found', `chunk ${item.chunk} of object ${ociDigest(item.digest)} is not in the store`);
    }
    await this.#profiles.put(profile);
  }

  async reset(image: Digest): Promise<boolean> {
    clearTimeout(this.#due.get(image));
    this.#due.delete(image);
    return await this.#profiles.reset(image);
  }

  /** Gives a new image the profile of the last version of it that has one. Never fails: it is only for speed. */
  async inherit(record: ImageRecord): Promise<void> {
    try {
      const repository = repositoryOf(record.source);
      if ((await this.find(record.indexDigest)) !== undefined || repository === undefined) return;
      for (const { record: other } of this.#store.list(undefined, PREDECESSORS)) {
        if (other.indexDigest === record.indexDigest || repositoryOf(other.source) !== repository) continue;
        if (other.platform.architecture !== record.platform.architecture) continue;
        const from = await this.find(other.indexDigest);
        if (from === undefined) continue;
        const before = decodeIndex(await this.#store.indexes.read(other.indexDigest));
        const after = decodeIndex(await this.#store.indexes.read(record.indexDigest));
        const profile = inheritProfile(from, before, record.indexDigest, after);
        if (profile === undefined || !(await this.#profiles.put(profile, { onlyIfNone: true }))) return;
        this.#log.info(
          { image: record.indexDigest, from: other.indexDigest, items: profile.size },
          'profile inherited',
        );
        return;
      }
    } catch (error) {
      this.#log.warn({ image: record.indexDigest }, `no profile inherited: ${messageOf(error)}`);
    }
  }

  /** The prepared content of an image; undefined where there is none, or a damaged one. */
  async openPack(image: Digest): Promise<Pack | undefined> {
    try {
      return await Pack.open(this.#profiles.packFile(image));
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) this.#log.warn({ image }, `prepared content not readable: ${messageOf(error)}`);
      return undefined;
    }
  }

  /** Has the content prepared where that was not done yet. */
  wantPack(image: Digest): void {
    this.#prepareSoon(image);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new GearError('unavailable', 'the manager is stopping'));
    for (const timer of this.#due.values()) clearTimeout(timer);
    await this.#working;
    this.#profiles.onChange = () => {};
    await this.#profiles[Symbol.asyncDispose]();
  }

  async #bytesOf(
    { digest, chunk }: { readonly digest: Digest; readonly chunk: number },
    chunkSize: number,
  ): Promise<number | undefined> {
    const size = await this.#store.objects.size(digest);
    const bytes = size === undefined ? 0 : Math.min(chunkSize, size - chunk * chunkSize);
    return bytes > 0 ? bytes : undefined;
  }

  #prepareSoon(image: Digest): void {
    if (this.#due.has(image) || this.#stop.signal.aborted) return;
    const timer = setTimeout(() => {
      this.#due.delete(image);
      // One after the other: compressing takes all of a core.
      this.#working = this.#working.then(() => this.#prepare(image));
    }, PREPARE_AFTER);
    this.#due.set(image, timer);
  }

  async #prepare(image: Digest): Promise<void> {
    const { signal } = this.#stop;
    try {
      if (signal.aborted) return;
      const profile = await this.find(image);
      if (profile === undefined) return;
      const pieces = piecesOf(profile);
      {
        await using pack = await this.openPack(image);
        if (pack !== undefined && isFresh(pieces, pack.frames)) return;
      }
      const began = performance.now();
      await writePack(this.#profiles.packFile(image), this.#store.objects, pieces, signal);
      await using pack = await this.openPack(image);
      const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
      const milliseconds = Math.round(performance.now() - began);
      this.#log.info({ image, pieces: pieces.length, bytes, packed: pack?.bytes, milliseconds }, 'content prepared');
    } catch (error) {
      if (!signal.aborted) this.#log.warn({ image }, `content not prepared: ${messageOf(error)}`);
    }
  }
}

/** The ranges that a profile's chosen items are. */
export function piecesOf(profile: Profile): Piece[] {
  return profile
    .chosen()
    .map(({ digest, chunk, bytes }: ProfileItem) => ({ digest, offset: chunk * profile.chunkSize, length: bytes }));
}

/** What the versions of an image have in common; undefined where a source has no name. */
function repositoryOf(source: string): string | undefined {
  const reference = parseReference(source);
  switch (reference.transport) {
    case 'docker':
      return `${reference.host}/${reference.repository}`;
    case 'docker-daemon':
      return reference.name === undefined ? undefined : `daemon ${reference.name}`;
    case 'oci':
      return `oci ${reference.path}`;
    case 'docker-archive':
      return undefined;
  }
}
