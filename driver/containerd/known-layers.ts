import { createHash } from 'node:crypto';
import { type Digest, parseDigest } from '#core/digest.ts';
import { isGearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Layer as WireLayer } from '#proto/gen/gear/v1/images.ts';
import type { ImageStore, PinnedImage } from '../images/image-store.ts';
import { layerVariantId } from '../images/layer-image.ts';
import type { ManagerImages } from '../remote/manager-images.ts';
import { sourceOf } from './conversions.ts';
import type { LayerRequest } from './labels.ts';

/** A layer's index on this node, or why the layer has to be unpacked. `unknown`: the manager could learn it. */
export type Found =
  | { readonly kind: 'lazy'; readonly pinned: PinnedImage }
  | { readonly kind: 'ordinary'; readonly reason: string; readonly unknown: boolean };

/** How long an index that was fetched ahead waits to be used, and what the manager said of a layer counts. */
const KEEP_AHEAD = 60_000;
/** So many are fetched ahead at a time. */
const AHEAD = 3;

/** The layers that the manager knows: brings their indexes to this node. */
export class KnownLayers implements Disposable {
  readonly #manager: ManagerImages;
  readonly #images: ImageStore;
  readonly #log: Logger;
  readonly #ahead = new Map<Digest, NodeJS.Timeout>();
  readonly #answers = new Map<Digest, Promise<WireLayer | undefined>>();
  readonly #stop = new AbortController();

  readonly #unable: string | undefined;

  /** `unable`: why this node can mount no lazy layer at all. */
  constructor(manager: ManagerImages, images: ImageStore, log: Logger, unable?: string) {
    this.#manager = manager;
    this.#images = images;
    this.#log = log;
    this.#unable = unable;
  }

  /**
   * Looks a layer up. `lowers` gives the roots of the layers below it, the topmost first. Never throws for what the manager or the network did: the layer
   * is then ordinary.
   */
  async find(request: LayerRequest, lowers: () => Promise<readonly string[]>): Promise<Found> {
    const { layer } = request;
    if (this.#unable !== undefined) return ordinary(this.#unable);
    if (layer === undefined) return ordinary('the client did not say which layer it is (see deploy/containerd)');
    this.#fetchAhead(request.layers.filter((other) => other !== layer));
    try {
      const known = await this.#ask(layer);
      if (known === undefined) return ordinary(`the manager ${this.#manager.address} does not know the layer`, true);
      const exact = known.linkedBelow ? await this.#inItsImage(request) : known;
      if (exact === undefined) {
        return ordinary('the layer has hard links to layers below it that the manager knows differently', true);
      }
      return { kind: 'lazy', pinned: await this.#bring(exact, request.target, lowers) };
    } catch (err) {
      if (!isGearError(err)) throw err;
      this.#log.warn({ err, layer, image: request.image }, 'layer is unpacked as usual');
      return ordinary(messageOf(err));
    }
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    for (const timer of this.#ahead.values()) clearTimeout(timer);
    this.#ahead.clear();
  }

  /**
   * What the manager knows of a layer. That it knows it is kept for a while: a layer that was asked for ahead, or is prepared again for a second image,
   * costs no further round trip. That it does not, or is away, may change at any moment.
   */
  #ask(layer: Digest): Promise<WireLayer | undefined> {
    const before = this.#answers.get(layer);
    if (before !== undefined) return before;
    const answer = this.#manager.resolveLayer(layer, { signal: this.#stop.signal });
    this.#answers.set(layer, answer);
    const forget = () => this.#answers.delete(layer);
    answer.then((known) => {
      if (known === undefined) forget();
      else setTimeout(forget, KEEP_AHEAD).unref();
    }, forget);
    return answer;
  }

  async #bring(layer: WireLayer, target: string, lowers: () => Promise<readonly string[]>): Promise<PinnedImage> {
    const index = parseDigest(layer.indexDigest);
    const blob = parseDigest(layer.blobDigest);
    const pinned = await this.#import(index, blob, index);
    if ((pinned.image.summary.implied ?? 0) === 0) return pinned;
    using _plain = pinned;
    const below = await lowers();
    if (below.length === 0) return await this.#import(index, blob, index);
    return await this.#import(index, blob, layerVariantId(index, target), below);
  }

  async #import(index: Digest, blob: Digest, id: Digest, lowers?: readonly string[]): Promise<PinnedImage> {
    return await this.#images.importLayer({
      id,
      index,
      blob,
      bytes: () => this.#manager.index(index, { signal: this.#stop.signal }),
      ...(lowers === undefined ? {} : { lowers }),
    });
  }

  /** The layer as the manager knows it over these very layers: the chain of an image up to it is what the client unpacks. */
  async #inItsImage({ manifest, image, target }: LayerRequest): Promise<WireLayer | undefined> {
    const references = [
      ...(manifest === undefined ? [] : [`sha256:${manifest}`]),
      ...(image === '' ? [] : [sourceOf(image)]),
    ];
    for (const reference of references) {
      const known = await this.#manager.resolve(reference);
      const layer = known === undefined ? undefined : layerWithChain(known, target);
      if (layer !== undefined) return layer;
    }
    return undefined;
  }

  // The client asks for one layer after the other, and says at the first which will come.
  #fetchAhead(layers: readonly Digest[]): void {
    const wanted = layers.filter((layer) => !this.#ahead.has(layer));
    for (const layer of wanted) {
      const timer = setTimeout(() => this.#ahead.delete(layer), KEEP_AHEAD);
      this.#ahead.set(layer, timer.unref());
    }
    const queue = wanted.values();
    const work = async () => {
      for (const layer of queue) {
        if (this.#stop.signal.aborted) return;
        await this.#fetchOne(layer);
      }
    };
    for (let worker = 0; worker < AHEAD; worker++) void work();
  }

  async #fetchOne(layer: Digest): Promise<void> {
    try {
      const known = await this.#ask(layer);
      if (known === undefined) return;
      const index = parseDigest(known.indexDigest);
      const pinned = await this.#import(index, parseDigest(known.blobDigest), index);
      setTimeout(() => pinned[Symbol.dispose](), KEEP_AHEAD).unref();
    } catch (err) {
      this.#log.debug({ err, layer }, 'index not fetched ahead');
    }
  }
}

function ordinary(reason: string, unknown = false): Found {
  return { kind: 'ordinary', reason, unknown };
}

/** The layer of an image at which its layers, from the lowest on, make the chain id `target` (OCI's image-spec, config.md). */
export function layerWithChain<L extends { readonly diffId: string }>(
  image: { readonly layers: readonly L[] },
  target: string,
): L | undefined {
  let chain = '';
  for (const layer of image.layers) {
    chain =
      chain === '' ? layer.diffId : `sha256:${createHash('sha256').update(`${chain} ${layer.diffId}`).digest('hex')}`;
    if (chain === target) return layer;
  }
  return undefined;
}
