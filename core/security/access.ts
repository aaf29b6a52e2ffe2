import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { Option, Values } from '../cli/command.ts';
import { GearError, messageOf } from '../errors.ts';
import { fileState } from './file-watch.ts';
import { readPrivateFile } from './private-file.ts';
import { firstToken } from './tokens.ts';

/** The options of whatever talks to a manager. */
export const ACCESS_OPTIONS = {
  'tls-ca': { type: 'string', value: 'FILE', help: "Speak TLS; the manager's certificate must be of this CA (PEM)" },
  'tls-cert': { type: 'string', value: 'FILE', help: 'The certificate to show to the manager, where it asks for one' },
  'tls-key': { type: 'string', value: 'FILE', help: 'Its private key; only its owner may read it' },
  'token-file': {
    type: 'string',
    value: 'FILE',
    help: 'The token to show: the first of this file, a line "NAME TOKEN"',
  },
  insecure: { type: 'flag', help: 'Send the token without TLS, too' },
} as const satisfies Readonly<Record<string, Option>>;

/** How to reach a manager that does not let everybody in: files, absolute. They are read when a connection is made, so renewed ones are taken. */
export interface Access {
  /** Left out: no TLS. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly tokenFile?: string;
}

/** What the options say. Reads every file once, so that what is wrong is said at once. Throws invalid-argument and failed-precondition. */
export function accessOf(values: Values<typeof ACCESS_OPTIONS>): Access {
  const file = (option: 'tls-ca' | 'tls-cert' | 'tls-key' | 'token-file') => {
    const path = values[option];
    return path === undefined || path === '' ? undefined : resolve(path);
  };
  const access = { ca: file('tls-ca'), cert: file('tls-cert'), key: file('tls-key'), tokenFile: file('token-file') };
  if ((access.cert === undefined) !== (access.key === undefined)) {
    throw new GearError('invalid-argument', '--tls-cert and --tls-key are needed together');
  }
  if (access.ca === undefined && access.cert !== undefined) {
    throw new GearError('invalid-argument', '--tls-cert needs --tls-ca: the CA of the manager');
  }
  if (access.ca === undefined && access.tokenFile !== undefined && !values.insecure) {
    throw new GearError(
      'invalid-argument',
      '--token-file: a token is not sent without TLS; give --tls-ca FILE, or --insecure to send it in the clear',
    );
  }
  const given = Object.fromEntries(Object.entries(access).filter(([, path]) => path !== undefined)) as Access;
  checkIdentity(given);
  if (given.tokenFile !== undefined) readToken(given.tokenFile);
  return given;
}

/** What TLS needs. Undefined: no TLS. Throws failed-precondition naming the file. */
export function readIdentity({ ca, cert, key }: Access): { ca: Buffer; cert?: Buffer; key?: Buffer } | undefined {
  if (ca === undefined) return undefined;
  return {
    ca: readPrivateFile(ca, 'public', '--tls-ca'),
    ...(cert === undefined ? {} : { cert: readPrivateFile(cert, 'public', '--tls-cert') }),
    ...(key === undefined ? {} : { key: readPrivateFile(key, 'secret', '--tls-key') }),
  };
}

function checkIdentity(access: Access): void {
  const identity = readIdentity(access);
  try {
    if (identity !== undefined) createSecureContext(identity);
  } catch (error) {
    const why = `what --tls-ca, --tls-cert and --tls-key name does not fit: ${messageOf(error)}`;
    throw new GearError('failed-precondition', why, { cause: error });
  }
}

function readToken(path: string): string {
  return firstToken(readPrivateFile(path, 'secret', '--token-file').toString('utf8'), `--token-file ${path}`);
}

/** How long what is known of a token file is not looked at again; milliseconds. */
const FRESH = 1_000;

/** The header that shows the token of a file; read again when the file has changed. */
export class TokenHeader {
  readonly #path: string;
  #state = '';
  #header = '';
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(path: string) {
    this.#path = path;
  }

  /** Throws failed-precondition naming the file. */
  get value(): string {
    const now = performance.now();
    if (now - this.#lookedAt < FRESH) return this.#header;
    const state = fileState(this.#path);
    if (state !== this.#state) {
      this.#header = `Bearer ${readToken(this.#path)}`;
      this.#state = state;
    }
    this.#lookedAt = now;
    return this.#header;
  }
}
