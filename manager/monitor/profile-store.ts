import { mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Abortable } from '#core/abort.ts';
import { writeAtomically } from '#core/atomic-file.ts';
import { type Digest, isDigest } from '#core/digest.ts';
import { GearError, isGearError, messageOf, orUndefined } from '#core/errors.ts';
import { KeyedLock } from '#core/keyed-lock.ts';
import type { Logger } from '#core/log.ts';
import { diskError } from '../store/disk-error.ts';
import type { Profile } from './profile.ts';
import { decodeProfile, encodeProfile } from './profile-codec.ts';

/** A profile is at most some 1.5 MB. */
const MAX_FILE_BYTES = 8 * 1024 * 1024;
const MAX_PROFILES = 10_000;
/** Items in memory, of all profiles that were used last. */
const MAX_CACHED_ITEMS = 200_000;
/** Reports that wait; a node that is refused tries again or goes without. */
const MAX_WAITING = 5_000;
/** Reports come in bursts: what several change is written once. */
const SAVE_AFTER = 250;

interface Known {
  readonly profile: Profile;
  dirty: boolean;
}

/**
 * Profiles as files, profiles/<image>.json, beside the images' records. What is in memory is bounded however many nodes report: a profile has a size of its
 * own, and reports that find too many others waiting are refused.
 */
export class ProfileStore implements AsyncDisposable {
  readonly folder: string;
  readonly #log: Logger;
  readonly #locks = new KeyedLock<Digest>();
  /** The one used last comes last. */
  readonly #known = new Map<Digest, Known>();
  readonly #names = new Set<Digest>();
  readonly #saves = new Map<Digest, NodeJS.Timeout>();
  #waiting = 0;
  /** Called when a profile has changed and was written. */
  onChange: (profile: Profile) => void = () => {};

  private constructor(folder: string, log: Logger) {
    this.folder = folder;
    this.#log = log;
  }

  static async open(folder: string, log: Logger): Promise<ProfileStore> {
    await mkdir(folder, { recursive: true });
    const store = new ProfileStore(folder, log);
    for (const name of await readdir(folder)) {
      const image = name.slice(0, 64);
      if (name.startsWith('.tmp-')) await rm(join(folder, name), { force: true });
      else if (isDigest(image) && name === `${image}.json`) store.#names.add(image);
    }
    return store;
  }

  /** How many there are. */
  get size(): number {
    return this.#names.size;
  }

  /** Where the image's prepared content lies. */
  packFile(image: Digest): string {
    return join(this.folder, `${image}.pack`);
  }

  /** The profile of an image; undefined where there is none, or none that can be read. */
  async find(image: Digest, { signal }: Abortable = {}): Promise<Profile | undefined> {
    using _lock = await this.#locks.acquire(image, { signal });
    return (await this.#load(image))?.profile;
  }

  /** Changes a profile, made by `create` where there is none. Throws resource-exhausted where too many wait or there are too many. */
  async change(
    image: Digest,
    create: () => Profile,
    work: (profile: Profile) => Promise<void>,
    { signal }: Abortable = {},
  ): Promise<void> {
    if (this.#waiting >= MAX_WAITING) throw new GearError('resource-exhausted', 'too many reports at once; try later');
    this.#waiting++;
    try {
      using _lock = await this.#locks.acquire(image, { signal });
      const known = await this.#load(image);
      if (known === undefined) this.#checkRoom(image);
      const profile = known?.profile ?? create();
      await work(profile);
      this.#keep(image, { profile, dirty: true });
      this.#saveSoon(image);
    } finally {
      this.#waiting--;
    }
  }

  /** Puts a profile in the place of whatever is there, durably. */
  async put(profile: Profile, { onlyIfNone = false }: { onlyIfNone?: boolean } = {}): Promise<boolean> {
    const { image } = profile;
    using _lock = await this.#locks.acquire(image);
    if (onlyIfNone && (await this.#load(image)) !== undefined) return false;
    this.#checkRoom(image);
    this.#keep(image, { profile, dirty: true });
    await this.#save(image);
    return true;
  }

  /** Forgets a profile and what was prepared of it. Gives whether there was one. */
  async reset(image: Digest): Promise<boolean> {
    using _lock = await this.#locks.acquire(image);
    clearTimeout(this.#saves.get(image));
    this.#saves.delete(image);
    this.#known.delete(image);
    await rm(this.packFile(image), { force: true });
    await rm(this.#path(image), { force: true });
    return this.#names.delete(image);
  }

  /** Removes the profiles of images that are not there, where nobody has reported them for `age` milliseconds. */
  async sweep(isThere: (image: Digest) => boolean, age: number): Promise<void> {
    for (const image of [...this.#names]) {
      const facts = isThere(image) ? undefined : await orUndefined(stat(this.#path(image)), 'ENOENT');
      if (facts !== undefined && facts.mtimeMs < Date.now() - age) await this.reset(image);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [image, timer] of [...this.#saves]) {
      clearTimeout(timer);
      using _lock = await this.#locks.acquire(image);
      await this.#save(image).catch((err: unknown) => this.#log.error({ err, image }, 'profile not saved'));
    }
  }

  #path(image: Digest): string {
    return join(this.folder, `${image}.json`);
  }

  #checkRoom(image: Digest): void {
    if (this.#names.has(image) || this.#names.size < MAX_PROFILES) return;
    throw new GearError('resource-exhausted', `there are ${MAX_PROFILES} start-up profiles already`);
  }

  // Called with the image's lock held, as are those below.
  async #load(image: Digest): Promise<Known | undefined> {
    const known = this.#known.get(image);
    if (known !== undefined) {
      this.#keep(image, known);
      return known;
    }
    if (!this.#names.has(image)) return undefined;
    try {
      const read = { profile: decodeProfile(await readLimited(this.#path(image)), this.#path(image)), dirty: false };
      if (read.profile.image !== image)
        throw new GearError('corrupt', `${this.#path(image)} is of image ${read.profile.image}`);
      this.#keep(image, read);
      return read;
    } catch (error) {
      // It is learned anew; containers start without it.
      const level = isGearError(error, 'corrupt', 'unsupported') ? 'warn' : 'error';
      this.#log[level]({ image }, `start-up profile not readable: ${messageOf(error)}`);
      return undefined;
    }
  }

  #keep(image: Digest, known: Known): void {
    this.#known.delete(image);
    this.#known.set(image, known);
    this.#names.add(image);
    let items = 0;
    for (const { profile } of this.#known.values()) items += profile.size;
    for (const [other, { profile, dirty }] of this.#known) {
      if (items <= MAX_CACHED_ITEMS || other === image) break;
      if (dirty) continue;
      items -= profile.size;
      this.#known.delete(other);
    }
  }

  #saveSoon(image: Digest): void {
    if (this.#saves.has(image)) return;
    const save = async () => {
      using _lock = await this.#locks.acquire(image);
      this.#saves.delete(image);
      await this.#save(image);
    };
    const timer = setTimeout(() => {
      save().catch((err: unknown) => this.#log.error({ err, image }, 'start-up profile not saved'));
    }, SAVE_AFTER);
    this.#saves.set(image, timer);
  }

  async #save(image: Digest): Promise<void> {
    const known = this.#known.get(image);
    if (known?.dirty !== true) return;
    try {
      await writeAtomically(this.#path(image), encodeProfile(known.profile));
    } catch (error) {
      throw diskError(error, this.#path(image));
    }
    known.dirty = false;
    this.onChange(known.profile);
  }
}

async function readLimited(path: string): Promise<string> {
  await using handle = await open(path, 'r');
  if ((await handle.stat()).size > MAX_FILE_BYTES) throw new GearError('corrupt', `${path} is too large for a profile`);
  return await readFile(handle, 'utf8');
}
