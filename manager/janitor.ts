import { sleep } from '#core/abort.ts';
import type { Logger } from '#core/log.ts';
import type { Store } from './catalog/store.ts';

const LONGEST = 6 * 3_600_000;

/**
 * Collects now and then what was uploaded but never became part of an image (a client that crashed, a conversion that failed). The first time as soon as
 * nothing from before the start is under a claim any longer. Disposing it waits for the collection under way to stop.
 */
export function startJanitor(store: Store, grace: number, log: Logger): AsyncDisposable {
  const controller = new AbortController();
  const { signal } = controller;
  const work = async () => {
    await attempt(async () => await store.count({ signal }));
    for (;;) {
      await sleep(Math.min(Math.max(grace, 60_000) * 1.1, LONGEST), { signal });
      await attempt(async () => await store.collect({ everything: true, signal }));
    }
  };
  const attempt = async (step: () => Promise<unknown>) => {
    try {
      await step();
    } catch (error) {
      signal.throwIfAborted();
      log.error({ err: error }, 'looking after the store failed; it will be tried again');
    }
  };
  // Ends only by being stopped.
  const working = work().catch(() => {});
  return {
    [Symbol.asyncDispose]: async () => {
      controller.abort();
      await working;
    },
  };
}
