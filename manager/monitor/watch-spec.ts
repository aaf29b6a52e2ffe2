import { GearError, isGearError } from '#core/errors.ts';
import { type DockerReference, parseReference } from '../registry/reference.ts';

/** What is watched: a registry, or the part of it whose repositories begin with a prefix. */
export interface WatchSpec {
  /** "host" or "host:port". */
  readonly host: string;
  /** "team" stands for the repository "team" and for all of "team/...". Empty: everything. */
  readonly prefix: string;
}

/** Reads "docker://HOST[:PORT][/PREFIX]", also without "docker://". Throws invalid-argument; `option` names where it stood. */
export function parseWatch(text: string, option: string): WatchSpec {
  const bare = text.replace(/^docker:\/\//, '').replace(/\/+$/, '');
  const slash = bare.indexOf('/');
  const host = slash < 0 ? bare : bare.slice(0, slash);
  const prefix = slash < 0 ? '' : bare.slice(slash + 1);
  const example = referenceOf(host, prefix === '' ? 'a' : prefix, 'a');
  const hasHost = /[.:[]/.test(host) || host === 'localhost';
  if (!hasHost || example?.host !== host || !text.startsWith('docker://') === text.includes('://')) {
    throw new GearError(
      'invalid-argument',
      `${option} ${JSON.stringify(text.slice(0, 300))}: it is written docker://HOST[:PORT][/PREFIX]`,
    );
  }
  return { host, prefix: example.repository === `library/${prefix}` || prefix === '' ? prefix : example.repository };
}

/** The reference of a tag as a registry names it; undefined for names that no image can have. */
export function referenceOf(host: string, repository: string, tag: string): DockerReference | undefined {
  try {
    const reference = parseReference(`docker://${host}/${repository}:${tag}`);
    return reference.transport === 'docker' && reference.tag === tag ? reference : undefined;
  } catch (error) {
    if (isGearError(error, 'invalid-argument')) return undefined;
    throw error;
  }
}

/** Whether a repository belongs to what is watched. */
export function covers({ prefix }: WatchSpec, repository: string): boolean {
  return prefix === '' || repository === prefix || repository.startsWith(`${prefix}/`);
}

/** Whether a source, in skopeo's words, belongs to what is watched. */
export function coversSource(spec: WatchSpec, source: string): boolean {
  const reference = parseReference(source);
  return reference.transport === 'docker' && reference.host === spec.host && covers(spec, reference.repository);
}

/** As a user writes it. */
export function formatWatch({ host, prefix }: WatchSpec): string {
  return `docker://${host}${prefix === '' ? '' : `/${prefix}`}`;
}
