import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type Digest, digestOf, ociDigest } from '#core/digest.ts';
import { encodeManifest, MEDIA } from './manifest.ts';

/** Takes over a request; gives whether it did. */
export type Intercept = (request: IncomingMessage, response: ServerResponse, path: string) => boolean;

/** For tests: a registry in this process, whose content and behaviour a test may change at any time. */
export interface TestRegistry extends AsyncDisposable {
  readonly host: string;
  /** Manifests by tag, by repository. */
  readonly repositories: Map<string, Map<string, Buffer>>;
  readonly blobs: Map<Digest, Buffer>;
  /** "METHOD path" of each request so far. */
  readonly requests: string[];
  intercept: Intercept | undefined;
  /** Names in a page of a list, whatever the client asks for. */
  pageSize: number;
  /** Puts an image of no layers, made different by `marker`; gives its digest. */
  put(repository: string, tag: string, marker?: string, history?: readonly unknown[]): Digest;
}

/** For tests: starts such a registry on a loopback port, speaking http. */
export async function startTestRegistry(): Promise<TestRegistry> {
  const registry = {
    repositories: new Map<string, Map<string, Buffer>>(),
    blobs: new Map<Digest, Buffer>(),
    requests: [] as string[],
    intercept: undefined as Intercept | undefined,
    pageSize: 100,
    host: '',
    put: (repository: string, tag: string, marker = 'a', history: readonly unknown[] = []): Digest => {
      const parts = { architecture: 'amd64', os: 'linux', author: marker, rootfs: { type: 'layers', diff_ids: [] } };
      const config = Buffer.from(JSON.stringify({ ...parts, history }));
      registry.blobs.set(digestOf(config), config);
      const descriptor = { mediaType: MEDIA.ociConfig, digest: digestOf(config), size: config.length };
      const manifest = encodeManifest({ config: descriptor, layers: [] });
      const tags = registry.repositories.get(repository) ?? new Map<string, Buffer>();
      registry.repositories.set(repository, tags.set(tag, manifest));
      return digestOf(manifest);
    },
  };
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://registry');
    registry.requests.push(`${request.method} ${url.pathname}${url.search}`);
    if (registry.intercept?.(request, response, url.pathname) === true) return;
    answer(registry, request, response, url);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen({ port: 0, host: '127.0.0.1' }, resolve);
  await promise;
  const address = server.address();
  registry.host = `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
  return Object.assign(registry, {
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  });
}

function answer(
  { repositories, blobs, pageSize }: Pick<TestRegistry, 'repositories' | 'blobs' | 'pageSize'>,
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
): ServerResponse {
  const send = (status: number, headers: Record<string, string>, body: Uint8Array = Buffer.alloc(0)) => {
    response.writeHead(status, { ...headers, 'content-length': body.length });
    return response.end(request.method === 'HEAD' ? undefined : body);
  };
  const names = (key: string, all: readonly string[]) => {
    const last = url.searchParams.get('last') ?? '';
    const rest = [...all].sort().filter((name) => name > last);
    const page = rest.slice(0, pageSize);
    const link = `<${url.pathname}?last=${page.at(-1)}&n=${pageSize}>; rel="next"`;
    return send(200, page.length < rest.length ? { link } : {}, Buffer.from(JSON.stringify({ [key]: page })));
  };
  const [, repository = '', kind = '', reference = ''] =
    /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(url.pathname) ?? [];
  const tags = repositories.get(repository);
  if (url.pathname === '/v2/') return send(200, {}, Buffer.from('{}'));
  if (url.pathname === '/v2/_catalog') return names('repositories', [...repositories.keys()]);
  if (kind === 'tags' && tags !== undefined) return names('tags', [...tags.keys()]);
  if (kind === 'blobs') {
    const blob = blobs.get(reference.slice(7) as Digest);
    return blob === undefined ? send(404, {}) : send(200, {}, blob);
  }
  const manifest =
    tags?.get(reference) ?? [...(tags?.values() ?? [])].find((m) => ociDigest(digestOf(m)) === reference);
  if (kind !== 'manifests' || manifest === undefined) return send(404, {});
  if (request.method === 'DELETE') {
    for (const [tag, bytes] of tags ?? []) if (bytes.equals(manifest)) tags?.delete(tag);
    return send(202, {});
  }
  const digest = ociDigest(digestOf(manifest));
  if (request.headers['if-none-match'] === `"${digest}"`) return send(304, {});
  return send(200, { 'content-type': MEDIA.ociManifest, 'docker-content-digest': digest }, manifest);
}
