import { Agent as HttpAgent, type IncomingHttpHeaders, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { GearError, messageOf } from '#core/errors.ts';

/** Connections to one host at the same time. */
const MAX_SOCKETS = 8;
const MAX_REDIRECTS = 5;

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'DELETE';
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: string | undefined;
  /** The certificate of https need not be one that anybody vouches for. */
  readonly insecure: boolean;
  /** Milliseconds without a byte, before the answer's head as within its body, after which the request is given up. */
  readonly patience: number;
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  /** Where it came from at last, redirects followed. */
  readonly url: URL;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** To be read to its end, or destroyed. */
  readonly body: IncomingMessage;
}

/** Plain HTTP requests over a few connections that are kept. Disposing it closes them. */
export class HttpTransport implements Disposable {
  readonly #http = new HttpAgent({ keepAlive: true, maxSockets: MAX_SOCKETS });
  readonly #https = new HttpsAgent({ keepAlive: true, maxSockets: MAX_SOCKETS });
  readonly #unverified = new HttpsAgent({ keepAlive: true, maxSockets: MAX_SOCKETS, rejectUnauthorized: false });

  /** Sends a request and waits for the answer's head, whatever its status; redirects are followed, with credentials only to the same host. Throws unavailable and deadline-exceeded. */
  async send(url: URL, request: HttpRequest): Promise<HttpAnswer> {
    let at = url;
    for (let redirects = 0; ; redirects++) {
      const headers = Object.fromEntries(
        Object.entries(request.headers ?? {}).filter(
          ([name]) => name.toLowerCase() !== 'authorization' || at.host === url.host,
        ),
      );
      const answer = await this.#once(at, { ...request, headers });
      const { location } = answer.headers;
      if (location === undefined || ![301, 302, 303, 307, 308].includes(answer.status)) return answer;
      answer.body.destroy();
      if (redirects === MAX_REDIRECTS) throw new GearError('unavailable', `${url.host}: too many redirects`);
      const next = URL.parse(location, at);
      if (next === null || !['http:', 'https:'].includes(next.protocol)) {
        throw new GearError('unavailable', `${url.host}: it redirects to ${JSON.stringify(location.slice(0, 200))}`);
      }
      at = next;
    }
  }

  async #once(url: URL, { method, headers, body, insecure, patience, signal }: HttpRequest): Promise<HttpAnswer> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
    const secure = url.protocol === 'https:';
    const agent = secure ? (insecure ? this.#unverified : this.#https) : this.#http;
    const started = (secure ? requestHttps : requestHttp)(url, { method, headers, agent, signal, timeout: patience });
    const late = () => new GearError('deadline-exceeded', `${url.host}: no answer within ${patience} ms`);
    // The socket's own timeout does not count the time until there is a connection.
    const timer = setTimeout(() => started.destroy(late()), patience);
    started.on('timeout', () => started.destroy(late()));
    started.on('error', (error) => {
      clearTimeout(timer);
      if (signal.aborted) reject(signal.reason);
      else if (error instanceof GearError) reject(error);
      else reject(new GearError('unavailable', `${url.host}: ${messageOf(error) || error.name}`, { cause: error }));
    });
    started.on('response', (response) => {
      clearTimeout(timer);
      resolve({ url, status: response.statusCode ?? 0, headers: response.headers, body: response });
    });
    started.end(body);
    return await promise;
  }

  [Symbol.dispose](): void {
    for (const agent of [this.#http, this.#https, this.#unverified]) agent.destroy();
  }
}

/** The whole body of an answer. Throws corrupt for one that is longer than `most` bytes, unavailable where it breaks off. */
export async function readBody({ url, body }: HttpAnswer, most: number, signal: AbortSignal): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  try {
    for await (const piece of body) {
      size += (piece as Buffer).length;
      if (size > most) throw new GearError('corrupt', `${url.host}: an answer of more than ${most} bytes`);
      pieces.push(piece as Buffer);
    }
  } catch (error) {
    body.destroy();
    signal.throwIfAborted();
    if (error instanceof GearError) throw error;
    throw new GearError('unavailable', `${url.host}: the answer broke off: ${messageOf(error)}`, { cause: error });
  }
  return Buffer.concat(pieces);
}
