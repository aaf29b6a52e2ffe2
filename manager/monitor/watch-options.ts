import type { Option, Values } from '#core/cli/command.ts';
import { GearError } from '#core/errors.ts';
import { parseWatch, type WatchSpec } from './watch-spec.ts';

/** The options of `gear manager` about registries that it watches, and whose images it offers to nodes. */
export const WATCH_OPTIONS = {
  watch: {
    type: 'list',
    value: 'docker://HOST[/PREFIX]',
    help: 'A registry, or the repositories below a prefix, whose images are converted as they appear; may be repeated',
  },
  'watch-interval': {
    type: 'number',
    value: 'SECONDS',
    default: 60,
    min: 1,
    max: 86_400,
    help: 'How often all tags are looked at; what a notification names (POST /notifications) is looked at at once',
  },
  'watch-keep': {
    type: 'number',
    value: 'SECONDS',
    default: 86_400,
    min: 0,
    max: 365 * 86_400,
    help: 'How long what deleted and moved tags held is kept, from when the last node reported that it has the image (at least a minute, where nodes pull)',
  },
  upstream: {
    type: 'string',
    value: 'HOST[:PORT]',
    help: 'The registry whose images the registry endpoint offers as Gear images (default: the first --watch)',
  },
  'pull-timeout': {
    type: 'number',
    value: 'SECONDS',
    default: 60,
    min: 0,
    max: 3600,
    help: 'How long a pull waits for an image to be converted before it gets the original',
  },
} as const satisfies Readonly<Record<string, Option>>;

/** What the manager watches. Times in milliseconds. */
export interface WatchConfig {
  readonly watches: readonly WatchSpec[];
  readonly interval: number;
  readonly keep: number;
  /** "host" or "host:port"; undefined: there is no registry endpoint. */
  readonly upstream: string | undefined;
  readonly pullTimeout: number;
}

/** Reads the options. Throws invalid-argument. */
export function watchConfig(values: Values<typeof WATCH_OPTIONS>): WatchConfig {
  const watches = values.watch.map((text) => parseWatch(text, '--watch'));
  let upstream = watches[0]?.host;
  if (values.upstream !== undefined) {
    const { host, prefix } = parseWatch(values.upstream, '--upstream');
    if (prefix !== '') {
      throw new GearError('invalid-argument', `--upstream ${values.upstream}: it is a registry, without a repository`);
    }
    upstream = host;
  }
  return {
    watches,
    interval: values['watch-interval'] * 1000,
    keep: values['watch-keep'] * 1000,
    upstream,
    pullTimeout: values['pull-timeout'] * 1000,
  };
}
