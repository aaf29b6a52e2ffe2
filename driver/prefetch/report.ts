import { sleep } from '#core/abort.ts';
import { type Digest, digestToBytes, ociDigest } from '#core/digest.ts';
import { isGearError, messageOf } from '#core/errors.ts';
import { type Connection, connect } from '#core/grpc/client.ts';
import type { Logger } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
import { MonitorService, type ReportTouchesRequest } from '#proto/gen/gear/v1/monitor.ts';

/** What was touched of an image; see TouchReport of the object filesystem. */
export interface Touches {
  readonly image: Digest;
  readonly chunkSize: number;
  readonly first: boolean;
  readonly complete: boolean;
  readonly digests: readonly Digest[];
  readonly chunks: readonly number[];
  readonly milliseconds: readonly number[];
}

const INTERVAL = 1_000;
const CALL_TIMEOUT = 10_000;
/** Reports that wait for the monitor; beyond it they are dropped. */
const MAX_WAITING = 32;
/** A busy monitor is tried so many times. */
const TRIES = 5;
/** What may be gone at the next try. */
const PASSING = ['unavailable', 'deadline-exceeded', 'resource-exhausted', 'cancelled', 'unauthenticated'] as const;

/** Reports that wait to be sent, no more than so many. What is dropped must not be missed by what follows. */
export class ReportQueue {
  readonly #reports: Touches[] = [];
  /** Images whose run lost its beginning. */
  readonly #headless = new Set<Digest>();
  dropped = 0;

  add(report: Touches): void {
    const first = report.first || this.#headless.delete(report.image);
    if (this.#reports.length < MAX_WAITING) {
      this.#reports.push({ ...report, first });
      return;
    }
    this.dropped++;
    if (first) this.#headless.add(report.image);
  }

  get next(): Touches | undefined {
    return this.#reports[0];
  }

  done(): void {
    this.#reports.shift();
  }
}

function toWire(node: string, report: Touches): ReportTouchesRequest {
  const { image, chunkSize, first, complete, digests, chunks, milliseconds } = report;
  const touches = digests.map((digest, i) => ({
    digest: digestToBytes(digest),
    chunk: chunks[i] ?? 0,
    milliseconds: milliseconds[i] ?? 0,
  }));
  return { node, image: ociDigest(image), chunkSize, touches, first, complete };
}

/** Tells the monitor what containers of this node touch first, until `signal` aborts. Nothing waits for it, and what it cannot tell is dropped. */
export async function reportTouches(options: {
  readonly monitor: string;
  readonly access?: Access;
  readonly node: string;
  readonly take: () => Promise<readonly Touches[]>;
  readonly log: Logger;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { monitor, access, take, log, signal } = options;
  using connection = connect(monitor, 'monitor address', access);
  const queue = new ReportQueue();
  let tries = 0;
  while (!signal.aborted) {
    try {
      for (const report of await take()) queue.add(report);
      for (let report = queue.next; report !== undefined; report = queue.next) {
        await send(connection, options, report);
        tries = 0;
        queue.done();
      }
    } catch (error) {
      if (signal.aborted) return;
      log.debug(`first touches not reported: ${messageOf(error)}`);
      // What the monitor does not want will not be wanted later.
      const isFinal = !isGearError(error, ...PASSING);
      if (queue.next !== undefined && (isFinal || ++tries >= TRIES)) {
        queue.done();
        tries = 0;
      }
    }
    await sleep(INTERVAL, { signal }).catch(() => {});
  }
}

async function send(
  connection: Connection,
  { node, signal }: { readonly node: string; readonly signal: AbortSignal },
  report: Touches,
): Promise<void> {
  await connection.unary(MonitorService.reportTouches, toWire(node, report), { signal, timeout: CALL_TIMEOUT });
}
