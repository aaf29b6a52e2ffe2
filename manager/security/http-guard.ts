import type { Server } from 'node:https';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Guard } from './guard.ts';
import type { Identity } from './identity.ts';

/** What fastify is made with: TLS as the guard says. */
export function httpsOptions({ identity, config }: Guard): { readonly https?: object } {
  if (identity === undefined) return {};
  return { https: tlsOptions(identity.current, config.httpAuth !== 'token') };
}

function tlsOptions({ cert, key, ca }: Identity, mayAsk: boolean): object {
  return ca === undefined || !mayAsk ? { cert, key } : { cert, key, ca, requestCert: true, rejectUnauthorized: true };
}

/** Has every request, to whatever path, pass the guard first. To be called before anything else is added. */
export function guardHttp(app: FastifyInstance, guard: Guard): void {
  const { identity, config } = guard;
  identity?.onRenewed((renewed) => {
    (app.server as Server).setSecureContext(tlsOptions(renewed, config.httpAuth !== 'token'));
  });
  if (!guard.asksForTokens || config.httpAuth === 'certificate') return;
  app.addHook('onRequest', async (request, reply) => {
    const { headers, raw, url, ip } = request;
    const admission = guard.admit(headers.authorization, {
      peer: ip,
      wanted: `${request.method} ${url.split('?')[0]}`,
    });
    if (admission === undefined) return await refuse(request, reply);
    const release = admission.untilRevoked(() => raw.socket.destroy());
    reply.raw.once('close', release);
  });
}

/** As OCI's distribution specification has it, and so that a browser asks for a password. */
async function refuse(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const message = 'a token that this manager knows is needed, as bearer or as the password of any user';
  if (request.url.startsWith('/v2')) reply.header('docker-distribution-api-version', 'registry/2.0');
  return await reply
    .code(401)
    .header('www-authenticate', 'Basic realm="gear", charset="UTF-8"')
    .header('cache-control', 'no-store')
    .send({ errors: [{ code: 'UNAUTHORIZED', message }] });
}
