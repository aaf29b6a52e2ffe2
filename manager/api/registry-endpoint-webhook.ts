import type { FastifyInstance } from 'fastify';
import { messageOf } from '#core/errors.ts';
import { type Hint, NOTIFICATION_TYPE, parseNotification } from '../monitor/watch-notification.ts';

const MAX_BODY_BYTES = 8 * 1024 * 1024;

/** POST /notifications: the distribution registry's notifications. Their content is believed by nobody; it says where to look. */
export function addWebhook(app: FastifyInstance, notify: (hints: readonly Hint[]) => void): void {
  void app.register((scope, _options, done) => {
    scope.addContentTypeParser(
      NOTIFICATION_TYPE,
      { parseAs: 'string', bodyLimit: MAX_BODY_BYTES },
      scope.getDefaultJsonParser('error', 'error'),
    );
    scope.post('/notifications', { bodyLimit: MAX_BODY_BYTES }, async (request, reply) => {
      try {
        notify(parseNotification(request.body));
        return reply.code(202).send();
      } catch (error) {
        return reply.code(400).send({ error: messageOf(error) });
      }
    });
    done();
  });
}
