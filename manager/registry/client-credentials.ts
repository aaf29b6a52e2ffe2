import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { GearError, isErrno, messageOf } from '#core/errors.ts';

const HELPER_TIMEOUT = 15_000;

/** What proves who one is to a registry: a name and a password, or a token that buys tokens. */
export type Credentials =
  | { readonly kind: 'password'; readonly user: string; readonly password: string }
  | { readonly kind: 'identity'; readonly token: string };

type Environment = Readonly<Record<string, string | undefined>>;

/** The files that may hold credentials, the first that knows a registry counts: as skopeo looks for them (containers-auth.json(5)). */
export function authFiles(given: string | undefined, environment: Environment, home = homedir()): string[] {
  const chosen = given ?? environment['REGISTRY_AUTH_FILE'];
  if (chosen !== undefined && chosen !== '') return [chosen];
  const runtime = environment['XDG_RUNTIME_DIR'] ?? `/run/containers/${process.getuid?.() ?? 0}`;
  const containers = environment['XDG_RUNTIME_DIR'] === undefined ? runtime : join(runtime, 'containers');
  return [
    join(containers, 'auth.json'),
    join(environment['XDG_CONFIG_HOME'] ?? join(home, '.config'), 'containers', 'auth.json'),
    join(environment['DOCKER_CONFIG'] ?? join(home, '.docker'), 'config.json'),
  ];
}

/** The keys under which a file may keep what fits a repository, the nearest first. */
function keysOf(host: string, repository: string): string[] {
  const parts = repository === '' ? [] : repository.split('/');
  return [...parts.map((_, at) => `${host}/${parts.slice(0, parts.length - at).join('/')}`), host];
}

/** A key as it stands in a file, without what old programs write around the host. */
function plainKey(key: string): string {
  const plain = key.replace(/^https?:\/\//, '').replace(/\/(?:v[12]\/?)?$/, '');
  return plain === 'index.docker.io' || plain === 'registry-1.docker.io' ? 'docker.io' : plain;
}

function objectIn(value: unknown, key: string): Readonly<Record<string, unknown>> {
  const inner = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  return typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {};
}

/** What an entry of "auths" says. */
function fromEntry(entry: unknown): Credentials | undefined {
  if (typeof entry !== 'object' || entry === null) return undefined;
  const { auth, identitytoken } = entry as Record<string, unknown>;
  if (typeof identitytoken === 'string' && identitytoken !== '') return { kind: 'identity', token: identitytoken };
  if (typeof auth !== 'string') return undefined;
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 1) return undefined;
  return { kind: 'password', user: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
}

/** Asks a program "docker-credential-NAME". */
async function fromHelper(name: string, host: string, signal: AbortSignal): Promise<Credentials | undefined> {
  if (!/^[\w.-]+$/.test(name)) return undefined;
  const server = host === 'docker.io' ? 'https://index.docker.io/v1/' : host;
  const { failed, stdout } = await execa(`docker-credential-${name}`, ['get'], {
    input: server,
    reject: false,
    timeout: HELPER_TIMEOUT,
    cancelSignal: signal,
  });
  signal.throwIfAborted();
  if (failed) return undefined;
  try {
    const { Username: user, Secret: secret } = JSON.parse(stdout) as Record<string, unknown>;
    if (typeof user !== 'string' || typeof secret !== 'string') return undefined;
    return user === '<token>' ? { kind: 'identity', token: secret } : { kind: 'password', user, password: secret };
  } catch {
    return undefined;
  }
}

async function readAuthFile(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return undefined;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    // The parser's message quotes the text, which holds secrets.
    const where = /position \d+/.exec(messageOf(error))?.[0] ?? 'somewhere';
    throw new GearError('failed-precondition', `${path}: not JSON (${where}); "skopeo login" writes such files`);
  }
}

/** The credentials for a repository ("" for none in particular) of a registry, if any file or helper has some. */
export async function findCredentials(
  { host, repository }: { readonly host: string; readonly repository: string },
  authFile: string | undefined,
  signal: AbortSignal,
  environment: Environment = process.env,
): Promise<Credentials | undefined> {
  for (const path of authFiles(authFile, environment)) {
    const file = await readAuthFile(path);
    if (file === undefined) continue;
    const helper = objectIn(file, 'credHelpers')[host];
    if (typeof helper === 'string') {
      const found = await fromHelper(helper, host, signal);
      if (found !== undefined) return found;
    }
    const entries = new Map(Object.entries(objectIn(file, 'auths')).map(([key, value]) => [plainKey(key), value]));
    for (const key of keysOf(host, repository)) {
      const found = fromEntry(entries.get(key));
      if (found !== undefined) return found;
    }
    const { credsStore } = file as { credsStore?: unknown };
    if (typeof credsStore === 'string') {
      const found = await fromHelper(credsStore, host, signal);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}
