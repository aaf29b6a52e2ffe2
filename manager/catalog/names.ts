import { type Digest, isDigest, parseDigest } from '#core/digest.ts';
import { isGearError } from '#core/errors.ts';
import { formatReference, type ImageReference, parseReference } from '../registry/reference.ts';

/** What a user's text for an image may mean: a name in the catalogue, a manifest's digest, or both. */
export interface Wanted {
  readonly name: string | undefined;
  readonly digest: Digest | undefined;
}

/** The names that an image with this reference (in skopeo's words; empty: none) is found by. */
export function namesOf(reference: string): string[] {
  if (reference === '') return [];
  const parsed = tryParse(reference);
  if (parsed === undefined) return [reference];
  return [...new Set([reference, formatReference(parsed), bareName(parsed)])].filter((name) => name !== undefined);
}

/**
 * Reads what a user gives for an image: "sha256:...", 64 hexadecimal digits, a reference with its transport, or a name as `docker pull` takes it, which
 * also finds what was converted from a daemon. Throws invalid-argument.
 */
export function readWanted(text: string): Wanted {
  const bareDigest = text.startsWith('sha256:') ? text.slice(7) : text;
  if (isDigest(bareDigest)) return { name: undefined, digest: bareDigest };
  if (text.startsWith('sha256:')) return { name: undefined, digest: parseDigest(text) };
  const parsed = parseReference(text);
  const digest = parsed.transport === 'docker' ? parsed.digest : undefined;
  const name =
    parsed.transport === 'docker' && !text.startsWith('docker://') ? bareName(parsed) : formatReference(parsed);
  return { name, digest };
}

/** Without the transport: "docker.io/library/nginx:latest". */
function bareName(reference: ImageReference): string | undefined {
  if (reference.transport === 'docker') return formatReference(reference).slice('docker://'.length);
  if (reference.transport !== 'docker-daemon' || reference.name === undefined) return undefined;
  const named = tryParse(`docker://${reference.name}:${reference.tag}`);
  return named === undefined ? undefined : bareName(named);
}

function tryParse(text: string): ImageReference | undefined {
  try {
    return parseReference(text);
  } catch (error) {
    // Somebody registered an image under words that are no reference: found by exactly those words.
    if (isGearError(error, 'invalid-argument')) return undefined;
    throw error;
  }
}
