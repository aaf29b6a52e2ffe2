import { parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { type ImagesServer, ImagesService, type Platform } from '#proto/gen/gear/v1/images.ts';
import type { Store } from '../catalog/store.ts';
import { imageFromWire, imageToWire, layerToWire } from '../converter/image-wire.ts';
import { progressToWire } from '../converter/progress-wire.ts';
import type { ConversionRequest, ConvertProgress } from '../converter/request.ts';
import type { QueuedTag } from '../monitor/queue.ts';
import type { ImageRecord } from '../store/record.ts';
import type { Conversions } from './conversions.ts';
import type { Handlers } from './handlers.ts';
import { listImages } from './image-list.ts';
import { receiveIndex } from './index-upload.ts';
import { Latest } from './latest.ts';
import { listWatched } from './watched-list.ts';

/** Milliseconds between two messages about one conversion. */
const PROGRESS_INTERVAL = 100;

const NO_PROGRESS: ConvertProgress = {
  phase: 'resolve',
  doneBytes: 0,
  totalBytes: 0,
  layer: 0,
  layers: 0,
  entries: 0,
  newObjects: 0,
  newBytes: 0,
};

/** The images service of images.proto over a store. */
export function imagesService(
  store: Store,
  conversions: Conversions,
  handlers: Handlers,
  onImage: (image: ImageRecord) => Promise<void> = async () => {},
  watchedTags: () => readonly QueuedTag[] = () => [],
): ImagesServer {
  return {
    convert: handlers.serverStream(ImagesService.convert, async (request, send, { signal }) => {
      const conversion: ConversionRequest = {
        source: request.source,
        destination: request.destination,
        platform: wantedPlatform(request.platform),
        force: request.force,
        noPush: request.noPush,
      };
      const updates = new Latest<ConvertProgress>();
      let last = NO_PROGRESS;
      const running = conversions.run(conversion, { signal, onProgress: (progress) => updates.put(progress) });
      const ended = running.then(
        () => updates.end(),
        () => updates.end(),
      );
      for await (const progress of updates.values(PROGRESS_INTERVAL)) {
        last = progress;
        // The last message has the image with it.
        if (progress.phase !== 'done') await send(progressToWire(progress));
      }
      await ended;
      const { image, unchanged } = await running;
      await send({ ...progressToWire({ ...last, phase: 'done' }), image: imageToWire(image), unchanged });
    }),
    resolve: handlers.unary(ImagesService.resolve, async ({ reference, platform }) =>
      imageToWire(store.resolve(reference, wantedPlatform(platform))),
    ),
    resolveLayer: handlers.unary(ImagesService.resolveLayer, async ({ digest }) =>
      layerToWire(store.resolveLayer(parseDigest(digest))),
    ),
    list: handlers.unary(ImagesService.list, async (request) => listImages(store, request)),
    delete: handlers.unary(ImagesService.delete, async ({ reference }) => {
      // What has been forgotten is collected whether or not the client waits for it.
      const { objects, bytes } = await store.deleteImages(reference);
      return { objects: BigInt(objects), bytes: BigInt(bytes) };
    }),
    getIndex: handlers.serverStream(ImagesService.getIndex, async ({ digest }, send, { signal, transfer }) => {
      transfer.what = 'index';
      transfer.image = digest;
      for await (const data of store.indexes.pieces(parseDigest(digest))) {
        signal.throwIfAborted();
        transfer.sent(data.length);
        await send({ data });
      }
    }),
    putIndex: handlers.clientStream(ImagesService.putIndex, async (pieces, { signal }) => ({
      digest: `sha256:${await store.putIndex(await receiveIndex(pieces), { signal, claim: true })}`,
    })),
    put: handlers.unary(ImagesService.put, async (image) => {
      if (image.source === '') throw new GearError('invalid-argument', 'an image has a source');
      const put = await store.putImage(imageFromWire(image));
      await onImage(put);
      return imageToWire(put);
    }),
    listWatched: handlers.unary(ImagesService.listWatched, async (request) => listWatched(watchedTags(), request)),
  };
}

function wantedPlatform(platform: Platform | undefined): Platform | undefined {
  return platform?.os === '' ? undefined : platform;
}
