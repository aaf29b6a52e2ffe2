import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { isGearError, messageOf } from '#core/errors.ts';
import { type OverviewParts, Overviews } from './overview.ts';
import { page } from './page.ts';

/** Nothing but what the manager itself serves, no code and no style within the page, and in nobody's frame. */
const POLICY = [
  "default-src 'none'",
  ...["script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'"],
  ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
].join('; ');
const HEADERS = {
  'content-security-policy': POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
} as const;

const FILES = { 'style.css': 'text/css', 'live.js': 'text/javascript', 'icon.svg': 'image/svg+xml' } as const;

/** Milliseconds for which a page is new. */
const LIFETIME = 500;

/** GET /ui/: what the manager has and does, for people. It only shows; there is nothing to press. */
export function addUi(app: FastifyInstance, parts: OverviewParts): void {
  const overviews = new Overviews(parts);
  // However many look at the same time: it is the same for all of them.
  let newest = { text: '', until: 0 };
  const render = (older: string): string => {
    if (older !== '') return page(overviews.look(older));
    const now = performance.now();
    if (now >= newest.until) newest = { text: page(overviews.look()), until: now + LIFETIME };
    return newest.text;
  };
  for (const [path, target] of [
    ['/', 'ui/'],
    ['/ui', 'ui/'],
  ] as const) {
    app.get(path, async (_request, reply) => await reply.redirect(target, 302));
  }
  app.get('/ui/', async ({ query }, reply): Promise<FastifyReply> => {
    const { older } = query as { readonly older?: unknown };
    reply.headers(HEADERS).header('cache-control', 'no-store');
    try {
      const text = render(typeof older === 'string' ? older : '');
      return reply.type('text/html; charset=utf-8').send(text);
    } catch (error) {
      if (!isGearError(error, 'invalid-argument')) throw error;
      return reply.code(400).type('text/plain; charset=utf-8').send(messageOf(error));
    }
  });
  for (const [name, type] of Object.entries(FILES)) {
    const bytes = readFileSync(join(import.meta.dirname, name));
    app.get(`/ui/${name}`, async (_request, reply) => {
      return reply.headers(HEADERS).header('cache-control', 'no-cache').type(`${type}; charset=utf-8`).send(bytes);
    });
  }
}
