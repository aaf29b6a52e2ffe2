import { sleep } from '#core/abort.ts';
import type { Digest } from '#core/digest.ts';
import { messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';

const INTERVAL = 5_000;
/** A fill that was given up (the manager was away) is asked for again after this long. */
const AGAIN = 60_000;

/**
 * Asks for every image that is on the node to be brought here as a whole, until `signal` aborts: what is read over NFS stays on the manager, so a node
 * would need it for ever.
 */
export async function keepFilling(
  images: { list(): readonly { readonly id: Digest }[] },
  objects: { fill(image: Digest, options?: { readonly signal?: AbortSignal }): Promise<void> },
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  const asked = new Map<Digest, number>();
  while (!signal.aborted) {
    for (const { id } of images.list()) {
      if (performance.now() < (asked.get(id) ?? 0)) continue;
      asked.set(id, performance.now() + AGAIN);
      try {
        await objects.fill(id, { signal });
      } catch (error) {
        if (!signal.aborted) log.warn({ image: id }, `fill not asked for: ${messageOf(error)}`);
      }
    }
    await sleep(INTERVAL, { signal }).catch(() => {});
  }
}
