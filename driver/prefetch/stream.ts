import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { type Digest, digestFromBytes, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Connection } from '#core/grpc/client.ts';
import {
  ContentStoreService,
  type PartialObject,
  type PrefetchFrame,
  type PrefetchPlan,
} from '#proto/gen/gear/v1/objects.ts';

const decompress = promisify(zstdDecompress);

/** Bytes that may be under way: what a reader who suddenly needs something else has to wait for, and no less than the network holds. */
const GRANT = 1024 * 1024;
/** A manager that says nothing for so long, though it may, is given up. */
const SILENCE = 30_000;
/** A frame is not larger than this when it is decompressed, whatever it says of itself. */
const MAX_FRAME = 128 * 1024 * 1024;

/** A chunk that the manager will send. */
export interface Planned {
  readonly digest: Digest;
  readonly offset: number;
  readonly length: number;
}

export interface StreamOptions {
  readonly connection: Connection;
  readonly image: Digest;
  readonly have: { readonly have: Buffer; readonly partial: PartialObject[] };
  readonly signal: AbortSignal;
  /** Before more is asked for: waits while others go first. */
  readonly mayGoOn: () => Promise<void>;
  readonly onPlan: (plan: readonly Planned[]) => void;
  /** Bytes of one chunk of the plan, not verified; undefined: it cannot be had. */
  readonly onChunk: (planned: Planned, bytes: Buffer | undefined) => Promise<void>;
  /** Bytes that came over the wire. */
  readonly onWire: (bytes: number) => void;
}

/** Receives what an image's profile names. Throws not-found where there is no profile, and whatever ends the stream early. */
export async function receiveProfile(options: StreamOptions): Promise<void> {
  const { connection, image, have, onPlan, onWire, mayGoOn } = options;
  const watch = new Watchdog(SILENCE);
  using _watch = watch;
  const signal = AbortSignal.any([options.signal, watch.signal]);
  using exchange = connection.exchange(ContentStoreService.prefetch, { signal });
  const start = { image: ociDigest(image), grant: GRANT, have: have.have, partial: have.partial };
  await exchange.send({ step: { $case: 'start', value: start } });
  let plan: Planned[] | undefined;
  let next = 0;
  watch.begin();
  for await (const { step } of exchange.answers) {
    watch.end();
    if (step?.$case === 'plan') {
      if (plan !== undefined) throw new GearError('internal', `${connection.address} sent two plans`);
      plan = readPlan(step.value);
      onPlan(plan);
    } else if (step?.$case === 'frame') {
      const planned = plan?.slice(next, next + step.value.ranges) ?? [];
      if (planned.length !== step.value.ranges)
        throw new GearError('internal', `${connection.address} sent more than its plan`);
      next += planned.length;
      onWire(step.value.data.length);
      await handOver(step.value, planned, options);
      await mayGoOn();
      // A server that has sent everything takes no more; why a call ended early, the answers say.
      const grant = { $case: 'grant', value: step.value.data.length } as const;
      await exchange.send({ step: grant }).catch(() => {});
    }
    watch.begin();
  }
}

async function handOver(frame: PrefetchFrame, planned: readonly Planned[], options: StreamOptions): Promise<void> {
  const { onChunk } = options;
  if (frame.missing) {
    for (const piece of planned) await onChunk(piece, undefined);
    return;
  }
  const length = planned.reduce((sum, piece) => sum + piece.length, 0);
  if (length > MAX_FRAME) throw new GearError('corrupt', `a frame of ${length} bytes`);
  const bytes = frame.zstd ? await decompress(frame.data, { maxOutputLength: length + 1 }) : frame.data;
  if (bytes.length !== length) {
    throw new GearError('corrupt', `a frame of ${length} bytes has ${bytes.length} from ${options.connection.address}`);
  }
  let at = 0;
  for (const piece of planned) {
    await onChunk(piece, bytes.subarray(at, at + piece.length));
    at += piece.length;
  }
}

function readPlan({ ranges }: PrefetchPlan): Planned[] {
  return ranges.map(({ digest, offset, length }) => ({
    digest: digestFromBytes(digest),
    offset: Number(offset),
    length: Number(length),
  }));
}

/** Aborts its signal after a silence between `begin` and `end`. */
class Watchdog implements Disposable {
  readonly #milliseconds: number;
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  begin(): void {
    const error = new GearError('deadline-exceeded', `the manager was silent for ${this.#milliseconds} ms`);
    this.#timer = setTimeout(() => this.#controller.abort(error), this.#milliseconds);
    this.#timer.unref();
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
