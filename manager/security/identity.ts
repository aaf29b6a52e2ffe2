import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { GearError, messageOf } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import { watchFiles } from '#core/security/file-watch.ts';
import { readPrivateFile } from '#core/security/private-file.ts';
import type { SecurityConfig } from './options.ts';

type Files = NonNullable<SecurityConfig['tls']>;

/** What a TLS server shows, and whose certificates it takes, as Node's TLS takes it. */
export interface Identity {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Left out: clients are asked for none. */
  readonly ca?: Buffer;
}

/** Throws failed-precondition naming the files. */
function readIdentity({ cert, key, clientCa }: Files): Identity {
  const identity = {
    cert: readPrivateFile(cert, 'public', '--tls-cert'),
    key: readPrivateFile(key, 'secret', '--tls-key'),
    ...(clientCa === undefined ? {} : { ca: readPrivateFile(clientCa, 'public', '--tls-client-ca') }),
  };
  try {
    createSecureContext(identity);
    // OpenSSL takes a file without any certificate for an empty list: everybody would be refused.
    if (identity.ca !== undefined) new X509Certificate(identity.ca);
    return identity;
  } catch (error) {
    const named = [cert, key, ...(clientCa === undefined ? [] : [clientCa])].join(', ');
    throw new GearError('failed-precondition', `no certificate and key that fit: ${named}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The manager's certificate. Renewed files are taken as soon as they fit together; until then the ones before stay in use. */
export class ServerIdentity implements Disposable {
  readonly #listeners: ((identity: Identity) => void)[] = [];
  readonly #watch: Disposable;
  #current: Identity;

  /** Throws failed-precondition naming the file that cannot be used. */
  constructor(files: Files, log: Logger) {
    this.#current = readIdentity(files);
    const { cert, key, clientCa } = files;
    this.#watch = watchFiles([cert, key, ...(clientCa === undefined ? [] : [clientCa])], () => {
      try {
        const identity = readIdentity(files);
        this.#current = identity;
        for (const listener of this.#listeners) listener(identity);
        const { validTo, serialNumber } = new X509Certificate(identity.cert);
        log.info({ cert, validTo, serialNumber }, 'renewed certificate taken');
      } catch (error) {
        log.error({ err: error }, 'renewed certificate not taken; the one before is still in use');
      }
    });
  }

  get current(): Identity {
    return this.#current;
  }

  /** When the certificate ends; milliseconds since 1970. */
  get validTo(): number {
    return new X509Certificate(this.#current.cert).validToDate.getTime();
  }

  onRenewed(listener: (identity: Identity) => void): void {
    this.#listeners.push(listener);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}
