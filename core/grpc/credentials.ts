import { isIP, type Socket } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { CallCredentials, ChannelCredentials, type experimental } from '@grpc/grpc-js';
import { type Access, readIdentity } from '../security/access.ts';
import { explainHandshake } from '../security/tls-failure.ts';
import { formatHostPort, type HostPort } from './address.ts';

/** Milliseconds for shaking hands: who is no TLS server may just be silent. */
const HANDSHAKE = 10_000;

/** TLS for a channel, with files that are read again for each connection, and with errors that say which of the many reasons it is. */
export class TlsCredentials extends ChannelCredentials {
  readonly #peer: HostPort;
  readonly #access: Access;

  constructor(peer: HostPort, access: Access) {
    super();
    this.#peer = peer;
    this.#access = access;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    _target: unknown,
    _options: unknown,
    callCredentials?: CallCredentials,
  ): experimental.SecureConnector {
    let current: TLSSocket | undefined;
    return {
      connect: async (socket) => {
        current = await this.#shakeHands(socket);
        return { socket: current, secure: true };
      },
      waitForReady: async () => {},
      getCallCredentials: () => callCredentials ?? CallCredentials.createEmpty(),
      destroy: () => {},
    };
  }

  async #shakeHands(raw: Socket): Promise<TLSSocket> {
    try {
      return await this.#secure(raw);
    } catch (error) {
      throw explainHandshake(error, formatHostPort(this.#peer), this.#access);
    }
  }

  async #secure(raw: Socket): Promise<TLSSocket> {
    const { host } = this.#peer;
    const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
    const socket = connect({
      socket: raw,
      host,
      // An address is checked against the certificate too, but is no name to ask for.
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ALPNProtocols: ['h2'],
      ...readIdentity(this.#access),
    });
    const timer = setTimeout(() => socket.destroy(new Error('the handshake did not end in time')), HANDSHAKE);
    const onClose = () => reject(new Error('the connection was closed during the handshake'));
    socket.once('error', reject);
    socket.once('close', onClose);
    socket.once('secureConnect', () => resolve(socket));
    try {
      return await promise;
    } catch (error) {
      socket.on('error', () => {});
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
      socket.off('error', reject);
      socket.off('close', onClose);
    }
  }
}
