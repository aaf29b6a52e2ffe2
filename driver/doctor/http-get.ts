import { request } from 'node:http';
import { request as requestByTls } from 'node:https';
import { type Abortable, deadline } from '#core/abort.ts';
import { type Access, readIdentity, TokenHeader } from '#core/security/access.ts';

/** Longer answers are cut. */
const MAX_BODY = 1 << 20;

export interface Answer {
  readonly status: number;
  readonly body: string;
  /** The server's clock when it answered, in milliseconds since 1970 and whole seconds. */
  readonly date: number | undefined;
}

/** GET of a path at a unix socket or "HOST:PORT", which `access` lets in. `timeout` in milliseconds. Throws as node:http does. */
export async function httpGet(
  target: { readonly socketPath: string } | { readonly host: string; readonly port: number },
  path: string,
  { timeout, signal, access = {} }: { timeout: number; access?: Access } & Abortable,
): Promise<Answer> {
  const name = 'host' in target ? `${target.host}:${target.port}` : target.socketPath;
  using limit = deadline(timeout, name, signal);
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const identity = readIdentity(access);
  const headers = access.tokenFile === undefined ? {} : { authorization: new TokenHeader(access.tokenFile).value };
  const send = identity === undefined ? request : requestByTls;
  send({ ...target, path, headers, signal: limit, agent: false, ...identity }, (response) => {
    let body = '';
    response.setEncoding('utf8');
    response.on('data', (piece: string) => {
      if (body.length < MAX_BODY) body += piece;
    });
    response.on('error', reject);
    response.on('end', () => {
      const date = Date.parse(response.headers.date ?? '');
      resolve({ status: response.statusCode ?? 0, body, date: Number.isNaN(date) ? undefined : date });
    });
  })
    .on('error', (error) => reject(limit.aborted ? limit.reason : error))
    .end();
  return await promise;
}
