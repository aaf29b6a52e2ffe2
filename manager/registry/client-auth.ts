import { GearError, messageOf } from '#core/errors.ts';
import { type Challenge, parseChallenges } from './client-challenge.ts';
import { type Credentials, findCredentials } from './client-credentials.ts';
import { type HttpAnswer, type HttpTransport, readBody } from './client-http.ts';

const MAX_TOKEN_BYTES = 256 * 1024;
/** What the distribution specification says a token lasts when it does not say so itself; seconds. */
const USUAL_LIFETIME = 60;
/** A token is not used in its last moments; milliseconds. */
const MARGIN = 5_000;
const MAX_TOKENS = 2_000;

/** What a request is about. */
export interface Target {
  readonly host: string;
  /** "" for the registry as a whole. */
  readonly repository: string;
}

export interface AuthOptions {
  readonly insecure: boolean;
  readonly patience: number;
  readonly signal: AbortSignal;
}

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`, 'utf8').toString('base64')}`;

/** Proves who we are to registries: basic and token authentication (distribution's docs/spec/auth). Remembers what worked. */
export class Authenticator {
  readonly #transport: HttpTransport;
  readonly #authFile: string | undefined;
  readonly #known = new Map<string, { readonly header: string; readonly expires: number }>();

  constructor(transport: HttpTransport, authFile: string | undefined) {
    this.#transport = transport;
    this.#authFile = authFile;
  }

  /** The Authorization header that worked for this target before. */
  known({ host, repository }: Target): string | undefined {
    const key = `${host}/${repository}`;
    const found = this.#known.get(key);
    if (found !== undefined && found.expires > Date.now()) return found.header;
    this.#known.delete(key);
    return undefined;
  }

  /** Forgets what did not work any longer. */
  forget({ host, repository }: Target): void {
    this.#known.delete(`${host}/${repository}`);
  }

  /** The Authorization header that an answer with status 401 asks for; undefined where there is nothing to say. Throws unauthenticated. */
  async answer(target: Target, refused: HttpAnswer, options: AuthOptions): Promise<string | undefined> {
    const challenges = parseChallenges(String(refused.headers['www-authenticate'] ?? ''));
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const credentials = await findCredentials(target, this.#authFile, options.signal);
    if (bearer !== undefined) return await this.#token(target, refused, bearer, credentials, options);
    if (credentials?.kind !== 'password' || !challenges.some(({ scheme }) => scheme === 'basic')) return undefined;
    return this.#remember(target, basic(credentials.user, credentials.password), Number.POSITIVE_INFINITY);
  }

  async #token(
    target: Target,
    refused: HttpAnswer,
    { parameters }: Challenge,
    credentials: Credentials | undefined,
    { insecure, patience, signal }: AuthOptions,
  ): Promise<string> {
    const realm = URL.parse(parameters.get('realm') ?? '', refused.url);
    const refuse = (why: string, cause?: unknown) =>
      new GearError('unauthenticated', `${target.host}: no token for ${target.repository || 'it'}: ${why}`, { cause });
    if (realm === null || !['http:', 'https:'].includes(realm.protocol)) throw refuse('its realm is no address');
    // A password must not leave an encrypted conversation.
    if (realm.protocol === 'http:' && refused.url.protocol === 'https:') throw refuse('its realm is not encrypted');
    const asked = new URLSearchParams();
    for (const name of ['service', 'scope']) {
      const value = parameters.get(name);
      if (value !== undefined) asked.set(name, value);
    }
    const common = { insecure, patience, signal };
    let answer: HttpAnswer;
    if (credentials?.kind === 'identity') {
      for (const [name, value] of [
        ['grant_type', 'refresh_token'],
        ['refresh_token', credentials.token],
        ['client_id', 'gear'],
      ] as const) {
        asked.set(name, value);
      }
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      answer = await this.#transport.send(realm, { ...common, method: 'POST', headers, body: asked.toString() });
    } else {
      for (const [name, value] of asked) realm.searchParams.append(name, value);
      const headers = credentials === undefined ? {} : { authorization: basic(credentials.user, credentials.password) };
      answer = await this.#transport.send(realm, { ...common, method: 'GET', headers });
    }
    const bytes = await readBody(answer, MAX_TOKEN_BYTES, signal);
    if (answer.status !== 200) throw refuse(`${realm.host} answered ${answer.status}`);
    try {
      const { token, access_token, expires_in } = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
      const value = typeof token === 'string' && token !== '' ? token : access_token;
      if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value)) throw new Error('there is none in the answer');
      const lifetime = typeof expires_in === 'number' && expires_in > 0 ? expires_in : USUAL_LIFETIME;
      return this.#remember(target, `Bearer ${value}`, Date.now() + lifetime * 1000 - MARGIN);
    } catch (error) {
      throw refuse(error instanceof SyntaxError ? 'the answer is not JSON' : messageOf(error));
    }
  }

  #remember({ host, repository }: Target, header: string, expires: number): string {
    if (this.#known.size >= MAX_TOKENS) this.#known.clear();
    this.#known.set(`${host}/${repository}`, { header, expires });
    return header;
  }
}
