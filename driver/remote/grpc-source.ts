import { type Digest, digestToBytes } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { type Connection, connect } from '#core/grpc/client.ts';
import type { Access } from '#core/security/access.ts';
import { ContentStoreService } from '#proto/gen/gear/v1/objects.ts';
import { ReadMany } from './read-many.ts';
import type { ObjectSource } from './source.ts';

/** Larger ranges get a call of their own, so that small ones do not wait behind them. */
const LARGE_BYTES = 512 * 1024;

/** The manager's content store over gRPC. Connects at the first read. */
export class GrpcSource implements ObjectSource, Disposable {
  readonly name: string;
  readonly #connection: Connection;
  readonly #small: ReadMany;

  /** Takes "host:port". Throws invalid-argument. */
  constructor(address: string, access: Access = {}) {
    this.name = `manager ${address}`;
    this.#connection = connect(address, 'manager address', access);
    this.#small = new ReadMany(this.#connection);
  }

  async read(
    digest: Digest,
    offset: number,
    length: number,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<Buffer> {
    if (length <= LARGE_BYTES) return await this.#small.read(digest, offset, length, { signal });
    const range = { digest: digestToBytes(digest), offset: BigInt(offset), length: BigInt(length) };
    const bytes = Buffer.allocUnsafe(length);
    let received = 0;
    for await (const { data } of this.#connection.serverStream(ContentStoreService.read, { range }, { signal })) {
      // Only what fits is copied; a length that is wrong is said below.
      data.copy(bytes, Math.min(received, length));
      received += data.length;
    }
    if (received === length) return bytes;
    throw new GearError(
      'out-of-range',
      `object ${digest} from ${this.name}: ${received} of ${length} bytes at ${offset} came`,
    );
  }

  [Symbol.dispose](): void {
    this.#small[Symbol.dispose]();
    this.#connection.close();
  }
}
