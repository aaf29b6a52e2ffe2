import { resolve } from 'node:path';
import type { Option, Values } from '#core/cli/command.ts';
import { GearError } from '#core/errors.ts';
import { isLoopback, parseHostPort } from '#core/grpc/address.ts';

const HTTP_AUTH = ['all', 'certificate', 'token'] as const;

/** The options of who may reach the manager. */
export const SECURITY_OPTIONS = {
  'tls-cert': {
    type: 'string',
    value: 'FILE',
    help: "Serve TLS on every port: the manager's certificate, with its chain (PEM)",
  },
  'tls-key': { type: 'string', value: 'FILE', help: 'Its private key; only its owner may read it' },
  'tls-client-ca': {
    type: 'string',
    value: 'FILE',
    help: 'Refuse whoever has no certificate of this CA (mutual TLS)',
  },
  'token-file': {
    type: 'string',
    value: 'FILE',
    help: 'Refuse whoever has none of these tokens: lines "NAME TOKEN" or "NAME sha256:HEX"; read again when it changes',
  },
  'http-auth': {
    type: 'choice',
    choices: HTTP_AUTH,
    default: 'all',
    help: 'What the HTTP port asks for: all that is asked for elsewhere, or only one of the two, for clients that cannot give both',
  },
  insecure: { type: 'flag', help: 'Listen beyond loopback without TLS, or for everybody' },
} as const satisfies Readonly<Record<string, Option>>;

/** Who may reach the manager. Files are absolute. */
export interface SecurityConfig {
  /** Undefined: no TLS. */
  readonly tls: { readonly cert: string; readonly key: string; readonly clientCa: string | undefined } | undefined;
  /** Undefined: no token is asked for. */
  readonly tokenFile: string | undefined;
  readonly httpAuth: (typeof HTTP_AUTH)[number];
}

/** What the options say. Throws invalid-argument. */
export function securityConfig(values: Values<typeof SECURITY_OPTIONS>): SecurityConfig {
  const file = (option: 'tls-cert' | 'tls-key' | 'tls-client-ca' | 'token-file') => {
    const path = values[option];
    return path === undefined || path === '' ? undefined : resolve(path);
  };
  const wrong = (message: string) => new GearError('invalid-argument', message);
  const [cert, key, clientCa, tokenFile] = [
    file('tls-cert'),
    file('tls-key'),
    file('tls-client-ca'),
    file('token-file'),
  ];
  if ((cert === undefined) !== (key === undefined)) throw wrong('--tls-cert and --tls-key are needed together');
  if (clientCa !== undefined && cert === undefined) {
    throw wrong('--tls-client-ca: without --tls-cert and --tls-key nobody is asked for a certificate');
  }
  const httpAuth = values['http-auth'];
  if (httpAuth === 'certificate' && clientCa === undefined)
    throw wrong('--http-auth certificate needs --tls-client-ca');
  if (httpAuth === 'token' && tokenFile === undefined) throw wrong('--http-auth token needs --token-file');
  return {
    tls: cert === undefined || key === undefined ? undefined : { cert, key, clientCa },
    tokenFile,
    httpAuth,
  };
}

/** What a listener is called by its option, and where it is. */
export type Listeners = Readonly<Record<string, string>>;

interface OpenListener {
  readonly option: string;
  readonly address: string;
  /** What it lacks, and what to do. */
  readonly lacks: string;
}

/** Listeners beyond loopback that let everybody in. */
export function openListeners(listeners: Listeners, { tls, tokenFile }: SecurityConfig): OpenListener[] {
  const lacks =
    tls === undefined
      ? 'without TLS: give --tls-cert and --tls-key, and --tls-client-ca or --token-file'
      : tls.clientCa === undefined && tokenFile === undefined
        ? 'for everybody: give --tls-client-ca or --token-file'
        : undefined;
  if (lacks === undefined) return [];
  return Object.entries(listeners)
    .filter(([option, address]) => !isLoopback(parseHostPort(address, `--${option}`).host))
    .map(([option, address]) => ({ option, address, lacks }));
}

/** Refuses listeners beyond loopback that are not protected. Throws invalid-argument naming the first. */
export function checkListeners(listeners: Listeners, config: SecurityConfig, insecure: boolean): void {
  const [open] = openListeners(listeners, config);
  if (open === undefined || insecure) return;
  throw new GearError(
    'invalid-argument',
    `--${open.option} ${open.address} is reachable from other machines ${open.lacks}; or listen at 127.0.0.1; or say --insecure where the network itself keeps strangers out`,
  );
}
