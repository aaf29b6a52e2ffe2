import { ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import {
  type ListWatchedRequest,
  type ListWatchedResponse,
  WatchedTag_State as State,
  type WatchedTag,
} from '#proto/gen/gear/v1/images.ts';
import type { TagState } from '../catalog/watched-tags.ts';
import { progressToWire } from '../converter/progress-wire.ts';
import type { QueuedTag } from '../monitor/queue.ts';

const USUAL_PAGE = 500;
const MAX_PAGE = 2000;
/** A message of an error may be long. */
const MAX_ERROR = 1000;

const STATES: Readonly<Record<TagState, State>> = {
  waiting: State.STATE_WAITING,
  converting: State.STATE_CONVERTING,
  ready: State.STATE_READY,
  failed: State.STATE_FAILED,
  ignored: State.STATE_IGNORED,
};

/** A page of the tags, by source. Throws invalid-argument for a token that is none. */
export function listWatched(tags: readonly QueuedTag[], request: ListWatchedRequest): ListWatchedResponse {
  const after = Buffer.from(request.pageToken, 'base64url').toString('utf8');
  if (after !== '' && !after.startsWith('docker://')) {
    throw new GearError('invalid-argument', 'page_token is not one that ListWatched gave');
  }
  const count = Math.min(request.pageSize === 0 ? USUAL_PAGE : request.pageSize, MAX_PAGE);
  const rest = tags.filter(({ source }) => source > after).sort((a, b) => (a.source < b.source ? -1 : 1));
  const page = rest.slice(0, count);
  const last = page.length < rest.length ? page.at(-1) : undefined;
  return {
    tags: page.map(tagToWire),
    nextPageToken: last === undefined ? '' : Buffer.from(last.source).toString('base64url'),
  };
}

function tagToWire(tag: QueuedTag): WatchedTag {
  return {
    source: tag.source,
    state: STATES[tag.state],
    digest: ociDigest(tag.digest),
    progress: tag.progress === undefined ? undefined : progressToWire(tag.progress),
    error: tag.error.slice(0, MAX_ERROR),
    attempts: tag.attempts,
    retryAt: BigInt(Math.round(tag.retryAt ?? 0)),
    changedAt: BigInt(Math.round(tag.changedAt)),
    goneAt: BigInt(Math.round(tag.goneAt ?? 0)),
  };
}
