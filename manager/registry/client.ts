import { type Digest, digestOf, isDigest, ociDigest } from '#core/digest.ts';
import { GearError, isGearError } from '#core/errors.ts';
import type { RegistryAccess } from './access.ts';
import { Authenticator, type Target } from './client-auth.ts';
import { nextLink } from './client-challenge.ts';
import { statusError } from './client-error.ts';
import { type HttpAnswer, HttpTransport, readBody } from './client-http.ts';
import { MEDIA } from './manifest.ts';
import { isInsecure } from './skopeo.ts';

/** Registries refuse manifests over 4 MiB. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MAX_PAGE_BYTES = 8 * 1024 * 1024;
const PAGE_SIZE = 100;
/** A list of names that never ends is nonsense. */
const MAX_PAGES = 10_000;
const USUAL_PATIENCE = 30_000;

/** Every kind of manifest that an image may have. */
export const MANIFEST_TYPES = [MEDIA.ociManifest, MEDIA.ociIndex, MEDIA.dockerManifest, MEDIA.dockerList] as const;

/** A manifest or multi-arch list as a registry has it. */
export interface ManifestFacts {
  readonly digest: Digest;
  readonly mediaType: string;
}

export interface Manifest extends ManifestFacts {
  readonly bytes: Buffer;
}

export interface ClientOptions {
  readonly access?: RegistryAccess | undefined;
  /** Milliseconds without a byte after which a request is given up. */
  readonly patience?: number | undefined;
}

type Call = { readonly signal: AbortSignal };
type Method = 'GET' | 'HEAD' | 'DELETE';

/**
 * The read side of the OCI distribution API (and deleting a manifest), as a client. Everything that a registry sends is bounded and checked. Throws
 * GearError: unavailable, deadline-exceeded, unauthenticated, permission-denied, not-found, unsupported, resource-exhausted, corrupt (nonsense).
 */
export class RegistryClient implements Disposable {
  readonly #transport = new HttpTransport();
  readonly #authenticator: Authenticator;
  readonly #access: RegistryAccess | undefined;
  readonly #patience: number;
  /** What hosts that are allowed to speak plain http were found to speak. */
  readonly #schemes = new Map<string, 'http' | 'https'>();

  constructor({ access, patience = USUAL_PATIENCE }: ClientOptions = {}) {
    this.#access = access;
    this.#patience = patience;
    this.#authenticator = new Authenticator(this.#transport, access?.authFile);
  }

  /** Whether `host` is a registry that lets us in. Throws where not. */
  async ping(host: string, call: Call): Promise<void> {
    await this.#text({ host, repository: '' }, '/v2/', call);
  }

  /** The names of all repositories, page by page. */
  async *repositories(host: string, call: Call): AsyncGenerator<string, void, void> {
    yield* this.#names({ host, repository: '' }, `/v2/_catalog?n=${PAGE_SIZE}`, 'repositories', call);
  }

  /** The tags of a repository, page by page. */
  async *tags(host: string, repository: string, call: Call): AsyncGenerator<string, void, void> {
    yield* this.#names({ host, repository }, `/v2/${repository}/tags/list?n=${PAGE_SIZE}`, 'tags', call);
  }

  /** What a tag or digest names; `known` if it still is that. Undefined: it is not there. */
  async head(
    target: Target,
    reference: string,
    { known, signal }: Call & { readonly known?: Digest | undefined },
  ): Promise<ManifestFacts | 'unchanged' | undefined> {
    const path = `/v2/${target.repository}/manifests/${reference}`;
    const headers = {
      accept: MANIFEST_TYPES.join(', '),
      ...(known === undefined ? {} : { 'if-none-match': `"${ociDigest(known)}"` }),
    };
    const answer = await this.#request('HEAD', target, path, { signal }, headers);
    answer.body.resume();
    if (answer.status === 304) return 'unchanged';
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw statusError(target, answer.status);
    const digest = digestHeader(answer);
    if (digest === undefined) {
      const { digest: found, mediaType } = await this.manifest(target, reference, { signal });
      return found === known ? 'unchanged' : { digest: found, mediaType };
    }
    return digest === known ? 'unchanged' : { digest, mediaType: typeOf(answer) };
  }

  /** The manifest of a tag or digest, verified. */
  async manifest(target: Target, reference: string, { signal }: Call): Promise<Manifest> {
    const path = `/v2/${target.repository}/manifests/${reference}`;
    const answer = await this.#request('GET', target, path, { signal }, { accept: MANIFEST_TYPES.join(', ') });
    const bytes = await readBody(answer, MAX_MANIFEST_BYTES, signal);
    if (answer.status !== 200) throw statusError(target, answer.status, bytes);
    const digest = digestOf(bytes);
    const wanted = reference.startsWith('sha256:') ? reference.slice(7) : digestHeader(answer);
    if (wanted !== undefined && wanted !== digest) {
      const name = `${target.host}/${target.repository}:${reference}`;
      throw new GearError('corrupt', `${name}: the manifest has the digest ${ociDigest(digest)}, not sha256:${wanted}`);
    }
    return { digest, mediaType: typeOf(answer), bytes };
  }

  /** A small blob, whole and verified. */
  async smallBlob(target: Target, digest: Digest, most: number, { signal }: Call): Promise<Buffer> {
    const answer = await this.blob('GET', target, digest, undefined, { signal });
    const bytes = await readBody(answer, most, signal);
    if (digestOf(bytes) === digest) return bytes;
    throw new GearError('corrupt', `${target.host}/${target.repository}: blob ${ociDigest(digest)} has other bytes`);
  }

  /** Begins to read a blob; status 200, or with `range` (a Range header) 206 or 416. Its bytes are not verified. */
  async blob(
    method: 'GET' | 'HEAD',
    target: Target,
    digest: Digest,
    range: string | undefined,
    { signal }: Call,
  ): Promise<HttpAnswer> {
    const path = `/v2/${target.repository}/blobs/${ociDigest(digest)}`;
    const headers: Record<string, string> = range === undefined ? {} : { range };
    const answer = await this.#request(method, target, path, { signal }, headers);
    const isPart = range !== undefined && (answer.status === 206 || answer.status === 416);
    if (answer.status === 200 || isPart) return answer;
    throw statusError(target, answer.status, await readBody(answer, MAX_PAGE_BYTES, signal));
  }

  /** Deletes a manifest, and with it all tags that name it. Gives whether the registry did; many do not allow it. */
  async deleteManifest(target: Target, digest: Digest, { signal }: Call): Promise<boolean> {
    const path = `/v2/${target.repository}/manifests/${ociDigest(digest)}`;
    const answer = await this.#request('DELETE', target, path, { signal });
    answer.body.resume();
    return answer.status === 202 || answer.status === 404;
  }

  async *#names(target: Target, first: string, key: string, call: Call): AsyncGenerator<string, void, void> {
    let path = first;
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const { answer, text } = await this.#text(target, path, call);
      yield* namesIn(text, key, target);
      const next = nextLink([answer.headers['link'] ?? []].flat().join(', '));
      if (next === undefined) return;
      const url = URL.parse(next, new URL(path, answer.url));
      if (url === null || url.pathname !== new URL(path, answer.url).pathname) {
        throw new GearError('corrupt', `${target.host}: its next page is ${JSON.stringify(next.slice(0, 200))}`);
      }
      const following = url.pathname + url.search;
      if (following === path) throw new GearError('corrupt', `${target.host}: its next page is the same again`);
      path = following;
    }
    throw new GearError('corrupt', `${target.host}: more than ${MAX_PAGES} pages of names`);
  }

  async #text(target: Target, path: string, { signal }: Call): Promise<{ answer: HttpAnswer; text: string }> {
    const answer = await this.#request('GET', target, path, { signal }, { accept: 'application/json' });
    const bytes = await readBody(answer, MAX_PAGE_BYTES, signal);
    if (answer.status !== 200) throw statusError(target, answer.status, bytes);
    return { answer, text: bytes.toString('utf8') };
  }

  /** Sends a request, proves who we are where that is wanted, and gives the answer whatever its status, but for 401. */
  async #request(
    method: Method,
    target: Target,
    path: string,
    { signal }: Call,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<HttpAnswer> {
    const options = { insecure: isInsecure(target.host, this.#access), patience: this.#patience, signal };
    const attempt = async (authorization: string | undefined) =>
      await this.#send(target.host, path, {
        ...options,
        method,
        headers: { ...headers, 'user-agent': 'gear', ...(authorization === undefined ? {} : { authorization }) },
      });
    const answer = await attempt(this.#authenticator.known(target));
    if (answer.status !== 401) return answer;
    answer.body.resume();
    this.#authenticator.forget(target);
    const authorization = await this.#authenticator.answer(target, answer, options);
    const again = authorization === undefined ? answer : await attempt(authorization);
    if (again.status !== 401) return again;
    if (again !== answer) again.body.resume();
    this.#authenticator.forget(target);
    throw statusError(target, 401);
  }

  /** An insecure registry is asked in https first, and in http where it does not speak that. */
  async #send(host: string, path: string, request: Parameters<HttpTransport['send']>[1]): Promise<HttpAnswer> {
    const address = (scheme: string) =>
      new URL(path, `${scheme}://${host === 'docker.io' ? 'registry-1.docker.io' : host}`);
    if (!request.insecure) return await this.#transport.send(address('https'), request);
    const known = this.#schemes.get(host);
    if (known !== undefined) return await this.#transport.send(address(known), request);
    for (const scheme of ['https', 'http'] as const) {
      try {
        const answer = await this.#transport.send(address(scheme), request);
        this.#schemes.set(host, scheme);
        return answer;
      } catch (error) {
        if (scheme === 'http' || !isGearError(error, 'unavailable')) throw error;
      }
    }
    throw new GearError('internal', `${host}: neither https nor http`);
  }

  [Symbol.dispose](): void {
    this.#transport[Symbol.dispose]();
  }
}

function typeOf({ headers }: HttpAnswer): string {
  return (headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';
}

function digestHeader({ headers }: HttpAnswer): Digest | undefined {
  const value = String(headers['docker-content-digest'] ?? '').replace(/^sha256:/, '');
  return isDigest(value) ? value : undefined;
}

function namesIn(text: string, key: string, { host, repository }: Target): string[] {
  const nonsense = (why: string, cause?: unknown) =>
    new GearError('corrupt', `${host}${repository === '' ? '' : `/${repository}`}: ${why}`, { cause });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw nonsense(`its list of ${key} is not JSON`, error);
  }
  const names = typeof json === 'object' && json !== null ? (json as Record<string, unknown>)[key] : undefined;
  // A repository whose tags were all deleted has null there.
  if (names === null) return [];
  if (!Array.isArray(names) || !names.every((name) => typeof name === 'string')) {
    throw nonsense(`there is no list of ${key} in its answer`);
  }
  return names;
}
