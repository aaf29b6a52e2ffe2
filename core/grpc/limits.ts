/** The largest message that either side takes: room for an image's config or a page of a list beside a piece of data. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** The largest piece of data in one message of a stream. */
export const MAX_PIECE_BYTES = 1024 * 1024;

/** The usual one: larger ones cost more in allocating and collecting buffers than they save in messages. */
export const PIECE_BYTES = 128 * 1024;

/** Digests in one FindMissing request. */
export const MAX_DIGESTS_PER_REQUEST = 10_000;

/** Bytes under way on one stream before the sender waits for the receiver. */
export const FLOW_CONTROL_WINDOW = 4 * 1024 * 1024;
