import type { Digest } from '#core/digest.ts';
import type { Logger } from '#core/log.ts';
import type { Store } from '../catalog/store.ts';
import type { RegistryAccess } from '../registry/access.ts';
import { RegistryClient } from '../registry/client.ts';
import { ConversionQueue, type QueueParts } from './queue.ts';
import { RegistryWatch } from './watch.ts';
import { whyLeftAlone } from './watch-content.ts';
import type { Hint } from './watch-notification.ts';
import type { WatchConfig } from './watch-options.ts';
import { releaseTags } from './watch-release.ts';

/** Nodes report every few seconds; after a start nothing is released before they had the time to. Milliseconds. */
const NODES_REPORT_WITHIN = 30_000;

export interface WatchServiceParts {
  readonly config: WatchConfig;
  readonly access: RegistryAccess;
  readonly store: Store;
  readonly convert: QueueParts['convert'];
  readonly maxConversions: number;
  /** The indexes of the images that nodes have said lately that they have. */
  readonly onNodes: () => Iterable<Digest>;
  readonly log: Logger;
}

/** The registries that the manager watches, and the queue of what is to be converted. Disposing it ends the watching, then the conversions. */
export class WatchService implements AsyncDisposable {
  readonly client: RegistryClient;
  readonly queue: ConversionQueue;
  readonly watches: readonly RegistryWatch[];
  readonly #resources: AsyncDisposableStack;

  constructor({ config, access, store, convert, maxConversions, onNodes, log }: WatchServiceParts) {
    const stack = new AsyncDisposableStack();
    const client = stack.use(new RegistryClient({ access }));
    const findImages = (reference: string) => store.findImages(reference);
    const queue = stack.use(
      new ConversionQueue({
        tags: store.watchedTags,
        convert,
        leftAlone: async (tag, signal) => await whyLeftAlone({ client, findImages }, tag, signal),
        workers: maxConversions,
        registries: new Set([...config.watches.map(({ host }) => host), config.upstream ?? config.watches[0]?.host])
          .size,
        log,
      }),
    );
    const started = Date.now();
    const { interval, keep } = config;
    const seen = new LastSeen(keep);
    const release = { store, queue, client, isOnNode: (index: Digest) => seen.has(index), keep, log };
    this.watches = config.watches.map((spec) =>
      stack.use(
        new RegistryWatch({
          spec,
          client,
          queue,
          interval,
          onPass: async (signal) => {
            seen.add(onNodes());
            if (Date.now() - started < Math.min(keep, NODES_REPORT_WITHIN)) return;
            await releaseTags(release, spec, signal);
          },
          log,
        }),
      ),
    );
    this.client = client;
    this.queue = queue;
    this.#resources = stack;
  }

  /** Begins to watch, and to convert what was left from before a restart. */
  start(): void {
    this.queue.start();
    for (const watch of this.watches) watch.start();
  }

  /** Looks at once where a notification says that something has changed. */
  notify(hints: readonly Hint[]): void {
    for (const { repository, tag, host } of hints) {
      const named = this.watches.filter(({ spec }) => spec.host === host);
      // Whoever pushed may have called the registry by another name than we do.
      for (const watch of named.length > 0 ? named : this.watches) watch.hint(repository, tag);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** What was seen within the last `keep` milliseconds: a node that is away for a while keeps what it has. */
class LastSeen {
  readonly #keep: number;
  readonly #seen = new Map<Digest, number>();

  constructor(keep: number) {
    this.#keep = keep;
  }

  add(digests: Iterable<Digest>): void {
    const now = Date.now();
    for (const digest of digests) this.#seen.set(digest, now);
    for (const [digest, at] of this.#seen) if (at + this.#keep < now) this.#seen.delete(digest);
  }

  has(digest: Digest): boolean {
    return this.#seen.has(digest);
  }
}
