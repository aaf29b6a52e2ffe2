import { readFile } from 'node:fs/promises';
import { deadline } from '#core/abort.ts';
import { type Digest, ociDigest } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Store } from '../catalog/store.ts';
import type { ConversionQueue } from '../monitor/queue.ts';
import { referenceOf } from '../monitor/watch-spec.ts';
import type { Manifest, ManifestFacts, RegistryClient } from '../registry/client.ts';
import { MEDIA, parseManifest } from '../registry/manifest.ts';
import { choosePlatform, hostPlatform } from '../registry/platform.ts';
import { type DockerReference, formatReference } from '../registry/reference.ts';
import type { ImageRecord } from '../store/record.ts';
import type { GearFiles } from './registry-endpoint-gear.ts';
import { listWith } from './registry-endpoint-list.ts';

/** How long the upstream may take to say what a tag names when the store has an older answer; milliseconds. */
const IMPATIENCE = 10_000;
/** Manifests of the upstream that are remembered, by digest. */
const MAX_MANIFESTS = 256;

/** Why a pull got what it got. */
export type PullOutcome = 'gear' | 'original' | 'stale';

export interface Pulled extends Manifest {
  readonly outcome: PullOutcome;
}

export interface MirrorParts {
  /** "host" or "host:port". */
  readonly upstream: string;
  readonly client: RegistryClient;
  readonly queue: Pick<ConversionQueue, 'want'>;
  readonly store: Pick<Store, 'findImages' | 'openLease' | 'useIndex' | 'indexes'>;
  readonly files: GearFiles;
  /** Milliseconds that a pull waits for a conversion. */
  readonly pullTimeout: number;
  readonly log: Logger;
}

/** Whether a client takes manifests of a type. One that says nothing takes all. */
export type Accepts = (mediaType: string) => boolean;

/** What the registry endpoint answers: of a tag of the upstream the Gear image of what it names, of a digest exactly its bytes. */
export class Mirror {
  readonly #parts: MirrorParts;
  readonly #manifests = new Map<Digest, Manifest>();

  constructor(parts: MirrorParts) {
    this.#parts = parts;
  }

  /** The upstream's repository. Throws invalid-argument for a name that none can have. */
  target(name: string, tag = 'latest'): DockerReference {
    const reference = referenceOf(this.#parts.upstream, name, tag);
    if (reference !== undefined) return reference;
    throw new GearError('invalid-argument', `${JSON.stringify(name.slice(0, 300))} is not the name of a repository`);
  }

  /** What a tag is answered with. Throws not-found, and what the registry client throws. */
  async byTag(name: string, tag: string, accepts: Accepts, signal: AbortSignal): Promise<Pulled> {
    const reference = this.target(name, tag);
    const source = formatReference(reference);
    const found = await this.#look(reference, source, signal);
    if (found instanceof GearError) {
      const stale = await this.#lastKnown(source);
      if (stale === undefined) throw found;
      this.#parts.log.warn(
        { source, reason: found.message },
        'the upstream does not answer; the image is the last one known',
      );
      return stale;
    }
    const original: Manifest = await this.#original(reference, found.digest, signal);
    const gear = accepts(MEDIA.ociManifest) ? await this.#gearOf(source, original, accepts, signal) : undefined;
    return gear === undefined ? { ...original, outcome: 'original' } : { ...gear, outcome: 'gear' };
  }

  /** The manifest of that digest, verified. Throws not-found, and what the registry client throws. */
  async byDigest(name: string, digest: Digest, signal: AbortSignal): Promise<Manifest> {
    const kept = await this.#kept(digest);
    return kept ?? (await this.#original(this.target(name), digest, signal));
  }

  async #look(reference: DockerReference, source: string, signal: AbortSignal): Promise<ManifestFacts | GearError> {
    const { client, store } = this.#parts;
    const isKnown = store.findImages(source).length > 0;
    using patience = deadline(isKnown ? IMPATIENCE : 3_600_000, reference.host, signal);
    try {
      const found = await client.head(reference, reference.tag ?? 'latest', { signal: patience });
      if (found === undefined || found === 'unchanged') throw new GearError('not-found', `${source} is not there`);
      return found;
    } catch (error) {
      signal.throwIfAborted();
      if (isGearError(error) && error.code !== 'not-found') return error;
      throw error;
    }
  }

  /** The Gear image that this name was converted to last. */
  async #lastKnown(source: string): Promise<Pulled | undefined> {
    for (const { record } of this.#parts.store.findImages(source)) {
      const manifest = record.source === source ? await this.#gearManifest(record) : undefined;
      if (manifest !== undefined) return { ...manifest, outcome: 'stale' };
    }
    return undefined;
  }

  /** The Gear image of what the upstream has, converted now if need be. Undefined: the original is to be given. */
  async #gearOf(
    source: string,
    original: Manifest,
    accepts: Accepts,
    signal: AbortSignal,
  ): Promise<Manifest | undefined> {
    try {
      const manifest = parseManifest(original.bytes, source);
      const image = manifest.kind === 'image' ? manifest : choosePlatform(manifest.manifests, hostPlatform());
      if (image === undefined) return undefined;
      const record =
        this.#recordOf(image.digest) ?? (await this.#converted(source, original.digest, image.digest, signal));
      const gear = record === undefined ? undefined : await this.#gearManifest(record);
      if (record === undefined || gear === undefined || manifest.kind === 'image') return gear;
      if (!accepts(MEDIA.ociIndex)) return gear;
      const list = listWith(original.bytes, image.digest, gear);
      const { digest } = await this.#parts.files.keepList(record, list);
      return { digest, mediaType: MEDIA.ociIndex, bytes: list };
    } catch (error) {
      signal.throwIfAborted();
      this.#parts.log.warn({ source, err: error }, 'a pull gets the original image');
      return undefined;
    }
  }

  /** Waits for the conversion, no longer than may be; it goes on by itself. */
  async #converted(
    source: string,
    digest: Digest,
    image: Digest,
    signal: AbortSignal,
  ): Promise<ImageRecord | undefined> {
    const { queue, pullTimeout, log } = this.#parts;
    using patience = deadline(pullTimeout, `the conversion of ${source}`, signal);
    try {
      await queue.want(source, digest, patience);
      return this.#recordOf(image);
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ source, reason: messageOf(error) }, 'a pull gets the original image');
      return undefined;
    }
  }

  #recordOf(sourceDigest: Digest): ImageRecord | undefined {
    const found = this.#parts.store.findImages(ociDigest(sourceDigest));
    return found.find(({ record }) => record.sourceDigest === sourceDigest)?.record;
  }

  /** The manifest of a record's Gear image; undefined where the store has lost its index. */
  async #gearManifest(record: ImageRecord): Promise<Manifest | undefined> {
    const { store, files } = this.#parts;
    using lease = store.openLease();
    if (!store.useIndex(record.indexDigest, lease)) return undefined;
    const { digest } = await files.keep(record, async () => await store.indexes.read(record.indexDigest));
    return await this.#kept(digest);
  }

  async #kept(digest: Digest): Promise<Manifest | undefined> {
    const file = this.#parts.files.find(digest);
    if (file === undefined || (file.kind !== 'manifest' && file.kind !== 'index')) return undefined;
    const mediaType = file.kind === 'manifest' ? MEDIA.ociManifest : MEDIA.ociIndex;
    return { digest, mediaType, bytes: await readFile(file.path) };
  }

  async #original(target: DockerReference, digest: Digest, signal: AbortSignal): Promise<Manifest> {
    const known = this.#manifests.get(digest);
    if (known !== undefined) return known;
    const manifest = await this.#parts.client.manifest(target, ociDigest(digest), { signal });
    const [oldest] = this.#manifests.keys();
    if (this.#manifests.size >= MAX_MANIFESTS && oldest !== undefined) this.#manifests.delete(oldest);
    this.#manifests.set(digest, manifest);
    return manifest;
  }
}
