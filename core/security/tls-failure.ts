import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { GearError, isGearError, messageOf } from '../errors.ts';
import type { Access } from './access.ts';

/** Codes of Node and OpenSSL for a certificate that does not lead to the CA. */
const OTHER_CA: ReadonlySet<string> = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'INVALID_CA',
]);

/** What went wrong while shaking hands with a manager, in one sentence. Always "unavailable": a manager that is not the right one is as good as away. */
export function explainHandshake(error: unknown, peer: string, access: Access): GearError {
  return new GearError('unavailable', `TLS: ${reasonOf(error, peer, access)}`, { cause: error });
}

function reasonOf(error: unknown, peer: string, { ca }: Access): string {
  // A file of ours: its message names it.
  if (isGearError(error)) return error.message;
  const code = String((error as NodeJS.ErrnoException).code ?? '');
  const said = messageOf(error);
  if (OTHER_CA.has(code)) return `the certificate of ${peer} is of another CA than that in ${ca} (${code})`;
  if (code === 'INVALID_PURPOSE') return `the certificate of ${peer} is none of a server`;
  if (code === 'CERT_HAS_EXPIRED') return `the certificate of ${peer} has expired (or its CA's)`;
  if (code === 'CERT_NOT_YET_VALID')
    return `the certificate of ${peer} is not valid yet; is this machine's clock right?`;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const names = said.replace(/^.*cert's altnames: /i, '').slice(0, 300);
    return `the certificate of ${peer} is for another name: ${names}`;
  }
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST/.test(code) || /wrong version number/i.test(said)) {
    return `${peer} speaks no TLS: it runs without --tls-cert, or is no manager`;
  }
  if (code.startsWith('ERR_OSSL')) return `what --tls-ca, --tls-cert and --tls-key name does not fit: ${said}`;
  return `${said} (${peer})`;
}

/** How grpc-js says that it could not connect; calls that a working connection lost read otherwise. */
const NOT_CONNECTED = /^No connection established\. Last error: (?:GearError: (TLS: .*)|.*)\. Resolution note: *$/s;

/**
 * Why no connection could be made, from what grpc-js says of it; undefined: nothing that has to do with TLS. A server tells only after the client takes
 * the handshake for done why it refuses its certificate, or hangs up without a word.
 */
export function explainRefusal(details: string, peer: string, { ca, cert }: Access): string | undefined {
  const match = NOT_CONNECTED.exec(details);
  if (match === null) return undefined;
  if (match[1] !== undefined) return match[1];
  const hungUp = /Failed to connect|ECONNRESET|socket hang up|Socket closed/i.test(details);
  if (ca === undefined) return hungUp ? `${peer} hangs up: it may want TLS (--tls-ca), or is no manager` : undefined;
  if (!hungUp && !/SSL alert/i.test(details)) return undefined;
  if (cert === undefined) return `TLS: ${peer} wants a certificate of its clients; give --tls-cert and --tls-key`;
  return `TLS: ${peer} does not take the certificate ${cert}: ${whyRefused(cert)}`;
}

function whyRefused(path: string): string {
  try {
    const { validToDate } = new X509Certificate(readFileSync(path));
    if (validToDate.getTime() < Date.now()) return `it has expired (${validToDate.toISOString().slice(0, 19)}Z)`;
    return 'it is of another CA than the manager wants';
  } catch (error) {
    return messageOf(error);
  }
}
