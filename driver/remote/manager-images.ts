import type { Abortable } from '#core/abort.ts';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { GearError, isGearError, messageOf } from '#core/errors.ts';
import { type Connection, connect } from '#core/grpc/client.ts';
import type { Platform } from '#core/platform.ts';
import type { Access } from '#core/security/access.ts';
import { type Image, ImagesService, type Layer } from '#proto/gen/gear/v1/images.ts';

/** Milliseconds. Somebody waits for the answers, who can do without them. */
const ASK_TIMEOUT = 2_000;
const INDEX_TIMEOUT = 15_000;
/** How long a manager that could not be reached is not asked again: first, and at most. */
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
/** An index of a million files; more than this is none. */
const MAX_INDEX_BYTES = 512 * 1024 * 1024;

/** The manager's knowledge of images and layers. A manager that is away costs one wait in a while, not one for each question. */
export class ManagerImages implements Disposable {
  readonly address: string;
  readonly #connection: Connection;
  #failures = 0;
  #askAgainAt = 0;
  #reason = '';

  /** Takes "host:port". Throws invalid-argument. Connects at the first question. */
  constructor(address: string, access: Access = {}) {
    this.address = address;
    this.#connection = connect(address, 'manager address', access);
  }

  /** What is known of the layer with this blob or diff id; undefined where nothing is. Throws unavailable or deadline-exceeded. */
  async resolveLayer(layer: Digest, { signal }: Abortable = {}): Promise<Layer | undefined> {
    const request = { digest: ociDigest(layer) };
    return await this.#ask((connection) =>
      connection.unary(ImagesService.resolveLayer, request, { timeout: ASK_TIMEOUT, signal }),
    );
  }

  /** What is known of an image by its reference or its manifest's digest, for this node's platform; undefined where nothing is. */
  async resolve(reference: string, { signal }: Abortable = {}): Promise<Image | undefined> {
    const request = { reference, platform: nodePlatform() };
    return await this.#ask((connection) =>
      connection.unary(ImagesService.resolve, request, { timeout: ASK_TIMEOUT, signal }),
    );
  }

  /** The encoded index of this digest, verified. Throws corrupt where the manager sends something else. */
  async index(digest: Digest, { signal }: Abortable = {}): Promise<Buffer> {
    const bytes = await this.#ask(async (connection) => {
      const pieces: Buffer[] = [];
      let size = 0;
      const request = { digest: ociDigest(digest) };
      for await (const { data } of connection.serverStream(ImagesService.getIndex, request, {
        timeout: INDEX_TIMEOUT,
        signal,
      })) {
        size += data.length;
        if (size > MAX_INDEX_BYTES) throw new GearError('resource-exhausted', `the index ${digest} is too large`);
        pieces.push(data);
      }
      return Buffer.concat(pieces, size);
    });
    if (bytes === undefined) throw new GearError('not-found', `manager ${this.address} has no index ${digest}`);
    const found = digestOf(bytes);
    if (found !== digest) {
      throw new GearError('corrupt', `manager ${this.address} sent an index with digest ${found} instead of ${digest}`);
    }
    return bytes;
  }

  /** Has an image converted and waits for it. No Gear image is written anywhere. */
  async convert(source: string, { signal }: Abortable = {}): Promise<Image> {
    const request = { source, destination: '', platform: nodePlatform(), force: false, noPush: true };
    let image: Image | undefined;
    for await (const progress of this.#connection.serverStream(ImagesService.convert, request, { signal })) {
      image = progress.image ?? image;
    }
    if (image === undefined) throw new GearError('internal', `manager ${this.address}: ${source}: no result came`);
    return image;
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }

  async #ask<T>(question: (connection: Connection) => Promise<T>): Promise<T | undefined> {
    if (performance.now() < this.#askAgainAt) {
      throw new GearError('unavailable', `manager ${this.address} was away a moment ago: ${this.#reason}`);
    }
    try {
      const answer = await question(this.#connection);
      this.#failures = 0;
      return answer;
    } catch (error) {
      if (isGearError(error, 'not-found')) {
        this.#failures = 0;
        return undefined;
      }
      if (isGearError(error, 'unavailable', 'deadline-exceeded', 'unauthenticated')) this.#pause(messageOf(error));
      throw error;
    }
  }

  #pause(reason: string): void {
    this.#reason = reason;
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(this.#failures++, 16));
    this.#askAgainAt = performance.now() + pause;
  }
}

/** What this node runs, in OCI's words. */
function nodePlatform(): Platform {
  const architecture = ({ x64: 'amd64', ia32: '386' } as Record<string, string>)[process.arch] ?? process.arch;
  return { os: 'linux', architecture, variant: '' };
}
