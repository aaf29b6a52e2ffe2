import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { service } from 'grpc-health-check';
import type { Abortable } from '#core/abort.ts';
import { messageOf } from '#core/errors.ts';
import { parseHostPort } from '#core/grpc/address.ts';
import { connect } from '#core/grpc/client.ts';
import type { Access } from '#core/security/access.ts';
import { VERSION } from '#core/version.ts';
import { type Check, check } from './check.ts';
import { httpGet } from './http-get.ts';

const TIMEOUT = 5_000;
/** Where the manager's HTTP side is unless it is told otherwise. */
const HTTP_PORT = 2020;
/** A certificate that ends sooner is to be renewed; milliseconds. */
const RENEW_BEFORE = 21 * 86_400_000;
/** Milliseconds of difference that do no harm. */
const CLOCK_TOLERANCE = 5_000;

export interface ManagerFacts {
  readonly address: string;
  /** Whether the address was said, not just the default. */
  readonly given: boolean;
  /** What the standard health service says ("SERVING"), or undefined and `error`. */
  readonly health: string | undefined;
  readonly error: string;
  readonly httpAddress: string;
  readonly version: string | undefined;
  /** When the certificate that is shown to the manager ends, milliseconds since 1970; undefined: none is shown, or it cannot be read. */
  readonly certificateEnd: number | undefined;
  /** The manager's clock minus ours, in milliseconds. */
  readonly clockDifference: number | undefined;
}

interface LookOptions extends Abortable {
  readonly access?: Access;
}

async function health(address: string, { signal, access }: LookOptions): Promise<string> {
  using connection = connect(address, '--manager', access);
  const method = service['Check'];
  if (method === undefined) throw new TypeError('grpc-health-check has no Check');
  const answer = await connection.unary(method, { service: '' }, { timeout: TIMEOUT, signal });
  return String((answer as { status?: unknown }).status);
}

/** Asks the manager at "HOST:PORT" whether it serves, and its HTTP side (same host, port 2020, unless `http` says) for version and time. */
export async function lookAtManager(
  address: string,
  given: boolean,
  http: string | undefined,
  options: LookOptions = {},
): Promise<ManagerFacts> {
  const { host } = parseHostPort(address, '--manager');
  const target = http === undefined ? { host, port: HTTP_PORT } : parseHostPort(http, '--manager-http');
  const began = Date.now();
  const [serving, answer] = await Promise.allSettled([
    health(address, options),
    httpGet(target, '/healthz', { timeout: TIMEOUT, ...options }),
  ]);
  const ended = Date.now();
  options.signal?.throwIfAborted();
  const page = answer.status === 'fulfilled' && answer.value.status !== 401 ? answer.value : undefined;
  // The header has whole seconds: half of one later on average. Asking takes its time too, half of it one way.
  const theirs = page?.date === undefined ? undefined : page.date + 500;
  return {
    address,
    given,
    health: serving.status === 'fulfilled' ? serving.value : undefined,
    error: serving.status === 'fulfilled' ? '' : messageOf(serving.reason),
    httpAddress: `${target.host}:${target.port}`,
    certificateEnd: endOf(options.access?.cert),
    version: /"version":"([^"]{1,50})"/.exec(page?.body ?? '')?.[1],
    clockDifference: theirs === undefined ? undefined : Math.round(theirs - (began + ended) / 2),
  };
}

function endOf(cert: string | undefined): number | undefined {
  try {
    return cert === undefined ? undefined : new X509Certificate(readFileSync(cert)).validToDate.getTime();
  } catch {
    // Why nothing can be shown, the attempt to connect has said.
    return undefined;
  }
}

function certificateChecks({ certificateEnd }: ManagerFacts): Check[] {
  if (certificateEnd === undefined) return [];
  const left = certificateEnd - Date.now();
  const date = new Date(certificateEnd).toISOString().slice(0, 10);
  const state = left < 0 ? 'missing' : left < RENEW_BEFORE ? 'warning' : 'ok';
  return [
    check(
      'manager.certificate',
      "node's certificate",
      state,
      left < 0 ? `has ended on ${date}` : `good until ${date}`,
      {
        cost: 'once it has ended the manager lets this node in no more',
        remedy: 'deploy/ca FOLDER renew node NAME, or as your CA does; it is taken without a restart',
      },
    ),
  ];
}

function remedyFor(error: string, given: boolean): string {
  if (/\bTLS\b/.test(error))
    return 'give --tls-ca, --tls-cert and --tls-key that belong to this manager (deploy/SECURITY.md)';
  if (/\btoken\b/.test(error)) return "give --token-file with a token that is in the manager's --token-file";
  return given ? 'start gear manager there, or open the way to it' : 'name the manager with --manager HOST:PORT';
}

/** The checks of the manager. One that was not named and is not there is only a warning: it may come later. */
export function managerChecks(facts: ManagerFacts): Check[] {
  const { address, given, error, version, clockDifference, httpAddress } = facts;
  const serving = facts.health === 'SERVING';
  const found = serving ? `serving at ${address}` : `${address}: ${facts.health ?? error}`;
  const checks = [
    check('manager.serving', 'manager', serving ? 'ok' : given ? 'missing' : 'warning', found, {
      cost: 'what is not on this node yet cannot be read; what is here keeps working',
      remedy: remedyFor(error, given),
    }),
    ...certificateChecks(facts),
  ];
  if (!serving) return checks;
  const unknown = `not checked: nothing answers at http://${httpAddress} (--manager-http)`;
  const same = version === VERSION;
  const versions = version === undefined ? unknown : same ? version : `${version}; this is ${VERSION}`;
  checks.push(
    check(
      'manager.version',
      "manager's version",
      version === undefined ? 'unknown' : same ? 'ok' : 'warning',
      versions,
      {
        cost: 'versions that differ may not understand each other',
        remedy: 'install the same version on both sides',
      },
    ),
  );
  if (clockDifference === undefined) return [...checks, check('manager.clock', 'clock', 'unknown', unknown)];
  const seconds = (Math.abs(clockDifference) / 1000).toFixed(1);
  const near = Math.abs(clockDifference) <= CLOCK_TOLERANCE;
  const difference = near
    ? `as the manager's, to within ${Math.max(1, Math.ceil(Number(seconds)))} s`
    : `${seconds} s ${clockDifference > 0 ? 'behind' : 'ahead of'} the manager's`;
  checks.push(
    check('manager.clock', 'clock', near ? 'ok' : 'warning', difference, {
      cost: 'start-up times and logs of the two sides cannot be compared',
      remedy: 'synchronise both clocks (chrony, systemd-timesyncd)',
    }),
  );
  return checks;
}
