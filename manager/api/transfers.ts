import { pipeline, type Readable, Transform } from 'node:stream';

/** Milliseconds over which a rate is measured, twice. */
const WINDOW = 1_000;
/** A transfer that has ended is still told of for so long, so that who looks now and then sees short ones too; one that moves nothing, not any longer. */
const LINGER = 5_000;
const MAX_ENDED = 50;

/** Bytes in a second, over the last one to two seconds. */
class Rate {
  #since: number;
  #bytes = 0;
  #before = 0;
  #isFirst = true;

  constructor(now: number) {
    this.#since = now;
  }

  add(bytes: number, now: number): void {
    this.#turn(now);
    this.#bytes += bytes;
  }

  at(now: number): number {
    this.#turn(now);
    // Nothing can be said of the first moments.
    const span = Math.max(this.#isFirst ? WINDOW / 4 : WINDOW, now - this.#since + (this.#isFirst ? 0 : WINDOW));
    return ((this.#before + this.#bytes) / span) * 1000;
  }

  #turn(now: number): void {
    const passed = now - this.#since;
    if (passed < WINDOW) return;
    const isNext = passed < 2 * WINDOW;
    this.#before = isNext ? this.#bytes : 0;
    this.#since = isNext ? this.#since + WINDOW : now;
    this.#bytes = 0;
    this.#isFirst = false;
  }
}

/** A transfer as it is now. */
export interface TransferState {
  /** The address of the other side, with its port. */
  readonly peer: string;
  readonly what: string;
  /** An image's index that it is for, as "sha256:..."; empty: none in particular. */
  readonly image: string;
  readonly sent: number;
  readonly received: number;
  /** Bytes in a second, both ways. */
  readonly rate: number;
  /** Milliseconds that it has lasted. */
  readonly age: number;
  readonly ended: boolean;
}

/** What one call moves. It is told of from its first byte on. Disposing it ends it. */
export class Transfer implements Disposable {
  readonly peer: string;
  what: string;
  image = '';
  readonly #transfers: TransferSet;
  readonly #began: number;
  readonly #rate: Rate;
  #sent = 0;
  #received = 0;
  #last: number;
  #ended: number | undefined;

  constructor(transfers: TransferSet, { peer, what }: Pick<TransferState, 'peer' | 'what'>) {
    const now = performance.now();
    this.peer = peer;
    this.what = what;
    this.#transfers = transfers;
    this.#began = now;
    this.#last = now;
    this.#rate = new Rate(now);
  }

  sent(bytes: number): void {
    this.#sent += bytes;
    this.#count(bytes);
  }

  received(bytes: number): void {
    this.#received += bytes;
    this.#count(bytes);
  }

  /** Undefined: there is nothing to tell of it any longer. */
  state(now: number): TransferState | undefined {
    if (now - (this.#ended ?? this.#last) > LINGER) return undefined;
    const { peer, what, image } = this;
    const rate = this.#ended === undefined ? this.#rate.at(now) : 0;
    const age = (this.#ended ?? now) - this.#began;
    return {
      peer,
      what,
      image,
      sent: this.#sent,
      received: this.#received,
      rate,
      age,
      ended: this.#ended !== undefined,
    };
  }

  [Symbol.dispose](): void {
    if (this.#ended !== undefined) return;
    this.#ended = performance.now();
    this.#transfers.end(this);
  }

  #count(bytes: number): void {
    const now = performance.now();
    if (this.#sent + this.#received === bytes) this.#transfers.begin(this);
    this.#last = now;
    this.#rate.add(bytes, now);
  }
}

interface TransferSet {
  begin(transfer: Transfer): void;
  end(transfer: Transfer): void;
}

/** What a manager sends and receives right now. */
export class Transfers implements TransferSet {
  readonly #live = new Set<Transfer>();
  readonly #ended: Transfer[] = [];

  open(facts: Pick<TransferState, 'peer' | 'what'>): Transfer {
    return new Transfer(this, facts);
  }

  /** A stream of bytes that is sent, as it was, while what passes is counted. */
  sending(body: Readable, facts: Pick<TransferState, 'peer' | 'what'>): Readable {
    const transfer = this.open(facts);
    const counted = new Transform({
      transform: (piece: Buffer, _encoding, done) => {
        transfer.sent(piece.length);
        done(null, piece);
      },
    });
    // Whoever reads from it hears of an error.
    return pipeline(body, counted, () => transfer[Symbol.dispose]());
  }

  /** The fastest first, those that have ended last. */
  list(now = performance.now()): TransferState[] {
    return [...this.#live, ...this.#ended]
      .flatMap((transfer) => transfer.state(now) ?? [])
      .sort(
        (a, b) => Number(a.ended) - Number(b.ended) || b.rate - a.rate || b.sent + b.received - a.sent - a.received,
      );
  }

  begin(transfer: Transfer): void {
    this.#live.add(transfer);
  }

  end(transfer: Transfer): void {
    if (!this.#live.delete(transfer)) return;
    this.#ended.push(transfer);
    if (this.#ended.length > MAX_ENDED) this.#ended.shift();
  }
}

/** "192.0.2.1" of "192.0.2.1:4242", "::1" of "[::1]:4242". */
export function hostOf(peer: string): string {
  return peer
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/^::ffff:(?=\d+\.)/, '');
}
