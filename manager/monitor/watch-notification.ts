import { GearError } from '#core/errors.ts';

/** The media type of the body that the distribution registry posts (its docs/about/notifications.md). */
export const NOTIFICATION_TYPE = 'application/vnd.docker.distribution.events.v1+json';

/** Something in a registry that may have changed. */
export interface Hint {
  readonly repository: string;
  /** Undefined: nobody says which. */
  readonly tag: string | undefined;
  /** What the client that changed it called the registry; empty if unknown. */
  readonly host: string;
}

type Json = Readonly<Record<string, unknown>>;

function objectOf(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Reads a notification's body. Events that change no tag are left out. Throws invalid-argument. */
export function parseNotification(body: unknown): Hint[] {
  const { events } = objectOf(body);
  if (!Array.isArray(events)) throw new GearError('invalid-argument', 'a notification has a list of "events"');
  return events.flatMap((event: unknown) => {
    const { action, target, request } = objectOf(event);
    const { repository, tag, mediaType } = objectOf(target);
    if ((action !== 'push' && action !== 'delete') || typeof repository !== 'string') return [];
    // A manifest without a tag, and a blob, change what no tag names.
    const named = textOf(tag);
    if (action === 'push' && named === '') return [];
    if (action === 'delete' && named === '' && textOf(mediaType) === 'application/octet-stream') return [];
    return [{ repository, tag: named === '' ? undefined : named, host: textOf(objectOf(request)['host']) }];
  });
}
