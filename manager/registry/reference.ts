import { type Digest, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';

/** An image in a registry. */
export interface DockerReference {
  readonly transport: 'docker';
  /** "host" or "host:port". */
  readonly host: string;
  /** Without the host: "library/nginx". */
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}
/** An image in a Docker daemon: by name, or by id. */
export interface DaemonReference {
  readonly transport: 'docker-daemon';
  /** With the host where it was given: "nginx", "host:5000/team/app"; undefined when the image is named by its id. */
  readonly name: string | undefined;
  readonly tag: string | undefined;
  readonly id: Digest | undefined;
}
/** An image in an OCI layout: a folder, and a name in its index. */
export interface OciReference {
  readonly transport: 'oci';
  readonly path: string;
  readonly tag: string | undefined;
}
/** An image in a file that `docker save` wrote. */
export interface ArchiveReference {
  readonly transport: 'docker-archive';
  readonly path: string;
  /** "name:tag" or "@0"; undefined when the file holds a single image. */
  readonly image: string | undefined;
}
export type ImageReference = DockerReference | DaemonReference | OciReference | ArchiveReference;
export type Transport = ImageReference['transport'];

const TRANSPORTS = ['docker://', 'docker-daemon:', 'oci:', 'docker-archive:'];
/** Transports that skopeo knows and Gear does not take. */
const REFUSED = ['containers-storage', 'dir', 'oci-archive', 'ostree', 'sif', 'tarball', 'atomic'];

// distribution/reference's grammar.
const DOMAIN =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?$/;
const REPOSITORY = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^\w[\w.-]{0,127}$/;

function refuse(text: string, why: string): never {
  throw new GearError('invalid-argument', `image reference ${JSON.stringify(withoutSecret(text))}: ${why}`);
}

/** The text without what stands before an "@" where a host should begin: somebody may have put a password there. */
function withoutSecret(text: string): string {
  return text.slice(0, 300).replace(/^([a-z-]*:?(?:\/\/)?)[^/@]*:[^/]*@(?!sha256:)/, '$1***@');
}

/** "name[:tag][@digest]" into its parts; the last colon after the last slash begins a tag. */
function splitName(text: string, whole: string): { name: string; tag: string | undefined; digest: Digest | undefined } {
  const at = text.indexOf('@');
  let rest = text;
  let digest: Digest | undefined;
  if (at >= 0) {
    rest = text.slice(0, at);
    const value = text.slice(at + 1);
    if (!/^sha256:[0-9a-f]{64}$/.test(value))
      refuse(whole, 'what stands after "@" must be sha256: and 64 hexadecimal digits');
    digest = parseDigest(value);
  }
  const colon = rest.indexOf(':', rest.lastIndexOf('/') + 1);
  const tag = colon < 0 ? undefined : rest.slice(colon + 1);
  if (tag !== undefined && !TAG.test(tag)) refuse(whole, `${JSON.stringify(tag)} is not a tag`);
  return { name: colon < 0 ? rest : rest.slice(0, colon), tag, digest };
}

/** A familiar name into host and repository, as Docker does it: "nginx" is docker.io/library/nginx. */
function splitHost(name: string, whole: string): { host: string; repository: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const hasHost = /[.:[]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  let host = hasHost ? first : 'docker.io';
  let repository = hasHost ? name.slice(slash + 1) : name;
  if (host === 'index.docker.io') host = 'docker.io';
  if (host === 'docker.io' && !repository.includes('/')) repository = `library/${repository}`;
  if (!DOMAIN.test(host)) refuse(whole, `${JSON.stringify(host)} is not a host or host:port`);
  if (!REPOSITORY.test(repository) || host.length + repository.length > 254) {
    refuse(
      whole,
      'a repository is lower-case letters, digits and single separators (. _ - /), at most 255 characters with its host',
    );
  }
  return { host, repository };
}

function parseDocker(rest: string, whole: string): DockerReference {
  const { name, tag, digest } = splitName(rest, whole);
  const { host, repository } = splitHost(name, whole);
  return { transport: 'docker', host, repository, tag: tag ?? (digest === undefined ? 'latest' : undefined), digest };
}

function parseDaemon(rest: string, whole: string): DaemonReference {
  if (/^sha256:[0-9a-f]{64}$/.test(rest))
    return { transport: 'docker-daemon', name: undefined, tag: undefined, id: parseDigest(rest) };
  const { name, tag, digest } = splitName(rest, whole);
  if (digest !== undefined)
    refuse(whole, 'a daemon names its images name:tag, or sha256:<id>; it keeps no image by manifest digest');
  splitHost(name, whole);
  return { transport: 'docker-daemon', name, tag: tag ?? 'latest', id: undefined };
}

function parsePath(rest: string, whole: string): { path: string; name: string | undefined } {
  // skopeo ends the path at the first colon.
  const colon = rest.indexOf(':');
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const name = colon < 0 ? undefined : rest.slice(colon + 1);
  if (path === '' || path.includes('\0')) refuse(whole, 'a path is missing');
  if (name === '') refuse(whole, 'nothing stands after the last ":"');
  return { path, name };
}

/**
 * Reads an image reference in skopeo's words: "docker://host/name:tag", "docker-daemon:name:tag", "oci:folder:tag",
 * "docker-archive:file[:name:tag]". Without a transport it is a registry's. Throws invalid-argument, never showing a password.
 */
export function parseReference(text: string): ImageReference {
  if (text.length > 4096 || /[\s\0]/.test(text)) refuse(text, 'it is too long, or has white space in it');
  if (text.startsWith('docker://')) return parseDocker(text.slice(9), text);
  const colon = text.indexOf(':');
  const transport = colon < 0 ? '' : text.slice(0, colon);
  const rest = text.slice(colon + 1);
  switch (transport) {
    case 'docker-daemon':
      return parseDaemon(rest.replace(/^\/\//, ''), text);
    case 'oci': {
      const { path, name } = parsePath(rest, text);
      return { transport: 'oci', path, tag: name };
    }
    case 'docker-archive': {
      const { path, name } = parsePath(rest, text);
      return { transport: 'docker-archive', path, image: name };
    }
    case 'docker':
      return refuse(text, 'a registry is written docker://HOST/NAME:TAG');
  }
  if (REFUSED.includes(transport) || text.includes('://')) {
    return refuse(text, `transport ${JSON.stringify(transport)} is not supported; ${TRANSPORTS.join(' ')} are`);
  }
  return parseDocker(text, text);
}

/** The reference as skopeo takes it. Of a tag and a digest together skopeo takes only the digest. */
export function formatReference(reference: ImageReference): string {
  switch (reference.transport) {
    case 'docker': {
      const name = `docker://${reference.host}/${reference.repository}`;
      return reference.digest === undefined ? `${name}:${reference.tag}` : `${name}@${ociDigest(reference.digest)}`;
    }
    case 'docker-daemon':
      return `docker-daemon:${reference.id === undefined ? `${reference.name}:${reference.tag}` : ociDigest(reference.id)}`;
    case 'oci':
      return `oci:${reference.path}${reference.tag === undefined ? '' : `:${reference.tag}`}`;
    case 'docker-archive':
      return `docker-archive:${reference.path}${reference.image === undefined ? '' : `:${reference.image}`}`;
  }
}

/** The reference's name, with "-gear" added, as the place for its Gear image. Throws invalid-argument where none can be derived. */
export function gearDestination(source: ImageReference): ImageReference {
  const needed = (why: string) =>
    new GearError('invalid-argument', `${formatReference(source)}: ${why}; give the Gear image's destination`);
  switch (source.transport) {
    case 'docker':
      if (source.tag === undefined) throw needed('the source is named by digest and has no tag');
      return { ...source, repository: `${source.repository}-gear`, digest: undefined };
    case 'docker-daemon':
      if (source.name === undefined) throw needed('the source is named by its id');
      return { ...source, name: `${source.name}-gear` };
    case 'oci':
      return { ...source, path: `${source.path.replace(/\/+$/, '')}-gear` };
    case 'docker-archive':
      throw needed('an archive says nothing about where its Gear image belongs');
  }
}
