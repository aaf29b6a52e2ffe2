import { subscribe } from 'node:diagnostics_channel';
import type { Http2Session, ServerHttp2Stream } from 'node:http2';
import { FLOW_CONTROL_WINDOW } from '#core/grpc/limits.ts';

let isWide = false;

/**
 * Lets clients of this process's gRPC servers have more than HTTP/2's 64 KiB under way before they must wait: with 64 KiB an upload moves 64 KiB a
 * round trip, whatever the network can do. grpc-js has this option for clients only; Node tells of every HTTP/2 stream, and so of its session.
 */
export function widenFlowControl(): void {
  if (isWide) return;
  isWide = true;
  const seen = new WeakSet<Http2Session>();
  subscribe('http2.server.stream.created', (message) => {
    const { session } = (message as { stream: ServerHttp2Stream }).stream;
    if (session === undefined || seen.has(session)) return;
    seen.add(session);
    session.setLocalWindowSize(FLOW_CONTROL_WINDOW);
    session.settings({ initialWindowSize: FLOW_CONTROL_WINDOW });
  });
}
