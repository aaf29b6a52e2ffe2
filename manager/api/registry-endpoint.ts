import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Digest, isDigest, ociDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Manifest, RegistryClient } from '../registry/client.ts';
import type { Counter } from './metrics.ts';
import { fromFile, fromUpstream } from './registry-endpoint-blobs.ts';
import { errorAnswer, type Subject, toErrorAnswer } from './registry-endpoint-error.ts';
import type { GearFiles } from './registry-endpoint-gear.ts';
import type { Accepts, Mirror } from './registry-endpoint-mirror.ts';
import { type NamesQuery, pageOf } from './registry-endpoint-names.ts';
import type { Transfers } from './transfers.ts';

export interface RegistryEndpointParts {
  /** "host" or "host:port". */
  readonly upstream: string;
  readonly mirror: Mirror;
  readonly client: RegistryClient;
  readonly files: GearFiles;
  /** Aborts when calls under way must end. */
  readonly stop: AbortSignal;
  /** Tags that were answered, by what they were answered with. */
  readonly pulls: Counter;
  readonly transfers: Transfers;
  readonly log: Logger;
}

interface Call {
  readonly parts: RegistryEndpointParts;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly signal: AbortSignal;
  readonly isHead: boolean;
}

const TAG = /^\w[\w.-]{0,127}$/;

/** The read side of the OCI distribution API (version 1.1), below /v2/. See registry-endpoint-mirror.ts for what it offers. */
export function addRegistryEndpoint(app: FastifyInstance, parts: RegistryEndpointParts): void {
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const path = String((request.params as { readonly '*'?: string })['*'] ?? '');
    const gone = new AbortController();
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished) gone.abort(new GearError('cancelled', 'the client has gone'));
    });
    const signal = AbortSignal.any([gone.signal, parts.stop]);
    reply.header('docker-distribution-api-version', 'registry/2.0');
    const [, name = '', kind = '', reference = ''] = /^(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(path) ?? [];
    const call = { parts, request, reply, signal, isHead: request.method === 'HEAD' };
    const subject: Subject = kind === 'manifests' ? 'manifest' : kind === 'blobs' ? 'blob' : 'name';
    try {
      if (path === '') return reply.type('application/json').send('{}');
      if (path === '_catalog') return await sendNames(call, 'repositories', {});
      if (kind === 'manifests') return await sendManifest(call, name, reference);
      if (kind === 'blobs') return await sendBlob(call, name, reference);
      if (kind === 'tags' && reference === 'list') return await sendNames(call, 'tags', { name });
      throw new GearError('not-found', `/v2/${path.slice(0, 300)} is nothing that a registry has`);
    } catch (error) {
      const { status, body } = toErrorAnswer(error, subject);
      if (status >= 500 && !gone.signal.aborted) parts.log.warn({ err: error, path }, 'a pull failed');
      return reply.code(status).send(body);
    }
  };
  // Before anybody reads the body.
  const refuse = async (_request: FastifyRequest, reply: FastifyReply) => {
    const { status, body } = errorAnswer(405, 'UNSUPPORTED', `push to ${parts.upstream}: here one can only pull`);
    return await reply.code(status).header('allow', 'GET, HEAD').send(body);
  };
  for (const url of ['/v2', '/v2/*']) {
    app.route({ method: ['GET', 'HEAD'], url, handler });
    app.route({ method: ['POST', 'PUT', 'PATCH', 'DELETE'], url, onRequest: refuse, handler: refuse });
  }
}

/** Sends the headers of something that has a digest. Gives whether the client has it already. */
function describe({ request, reply }: Call, digest: Digest): boolean {
  const etag = `"${ociDigest(digest)}"`;
  reply.header('docker-content-digest', ociDigest(digest)).header('etag', etag);
  const known = (request.headers['if-none-match'] ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  return known.includes(etag) || known.includes('*');
}

function sendBytes({ reply, isHead }: Call, { bytes, mediaType }: Pick<Manifest, 'bytes' | 'mediaType'>): FastifyReply {
  reply.type(mediaType).header('content-length', bytes.length);
  return reply.send(isHead ? null : bytes);
}

async function sendManifest(call: Call, name: string, reference: string): Promise<FastifyReply> {
  const { parts, request, reply, signal } = call;
  if (reference.includes(':')) {
    const manifest = await parts.mirror.byDigest(name, digestIn(reference), signal);
    return describe(call, manifest.digest) ? reply.code(304).send() : sendBytes(call, manifest);
  }
  if (!TAG.test(reference)) throw new GearError('invalid-argument', `${JSON.stringify(reference)} is not a tag`);
  const pulled = await parts.mirror.byTag(name, reference, acceptsOf(request), signal);
  parts.pulls.add(1, { answer: pulled.outcome });
  // What a tag names may change at any time.
  reply.header('cache-control', 'no-cache').header('vary', 'Accept');
  return describe(call, pulled.digest) ? reply.code(304).send() : sendBytes(call, pulled);
}

async function sendBlob(call: Call, name: string, reference: string): Promise<FastifyReply> {
  const { parts, request, reply, signal, isHead } = call;
  const digest = digestIn(reference);
  const target = parts.mirror.target(name);
  const ifRange = request.headers['if-range'];
  const isStale = ifRange !== undefined && ifRange !== `"${ociDigest(digest)}"`;
  const range = isStale ? undefined : request.headers.range;
  const kept = parts.files.find(digest);
  const answer =
    kept !== undefined
      ? fromFile(kept, range, isHead)
      : fromUpstream(
          await parts.client.blob(isHead ? 'HEAD' : 'GET', target, digest, range, { signal }),
          digest,
          isHead,
        );
  if (describe(call, digest)) {
    answer.body?.destroy();
    return reply.code(304).send();
  }
  // A blob never changes.
  reply.headers({ 'accept-ranges': 'bytes', 'cache-control': 'max-age=31536000', ...answer.headers });
  if (answer.status === 416) {
    const { body } = errorAnswer(416, 'UNSUPPORTED', 'the range is not within the blob');
    return reply
      .code(416)
      .header('content-length', Buffer.byteLength(JSON.stringify(body)))
      .send(body);
  }
  reply.code(answer.status).type('application/octet-stream');
  if (answer.body === undefined) return reply.send(null);
  const facts = { peer: `${request.ip}:${request.socket.remotePort ?? 0}`, what: `pull of ${name}` };
  return reply.send(parts.transfers.sending(answer.body, facts));
}

async function sendNames(
  { parts, request, reply, signal }: Call,
  key: 'repositories' | 'tags',
  { name }: { readonly name?: string },
): Promise<FastifyReply> {
  const { client, upstream, mirror } = parts;
  const names =
    name === undefined
      ? client.repositories(upstream, { signal })
      : client.tags(upstream, mirror.target(name).repository, { signal });
  const path = name === undefined ? '/v2/_catalog' : `/v2/${name}/tags/list`;
  const { page, link } = pageOf(await Array.fromAsync(names), request.query as NamesQuery, path);
  if (link !== undefined) reply.header('link', link);
  return reply.send(name === undefined ? { [key]: page } : { name, [key]: page });
}

function digestIn(text: string): Digest {
  const digest = text.replace(/^sha256:/, '');
  if (text.startsWith('sha256:') && isDigest(digest)) return digest;
  throw new GearError('invalid-argument', `${JSON.stringify(text.slice(0, 200))} is not a sha256 digest`);
}

/** What the Accept header says of types of manifests. */
function acceptsOf({ headers }: FastifyRequest): Accepts {
  const types = (headers.accept ?? '').split(',').flatMap((part) => part.split(';')[0]?.trim() ?? []);
  const isAny = types.every((type) => type === '') || types.includes('*/*') || types.includes('application/*');
  return (mediaType) => isAny || types.includes(mediaType);
}
