import { type Digest, isDigest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import type { Labels } from './metadata.ts';

/** The name under which the client looks for the layer when it is told that it need not unpack it. */
export const TARGET = 'containerd.io/snapshot.ref';
const PREFIX = 'containerd.io/snapshot/';
/** Of containerd's pkg/snapshotters/annotations.go, which CRI, Docker and nerdctl use, and of stargz's own client. */
const LAYER = [`${PREFIX}cri.layer-digest`, `${PREFIX}remote/stargz.digest`];
const IMAGE = [`${PREFIX}cri.image-ref`, `${PREFIX}remote/stargz.reference`];
const LAYERS = [`${PREFIX}cri.image-layers`, `${PREFIX}remote/stargz.layers`];
const MANIFEST = [`${PREFIX}cri.manifest-digest`];
/** containerd's own limit for a key and its value together (labels/validate.go). */
const MAX_LABEL = 4096;

/** What a client says about the layer that it is going to unpack. */
export interface LayerRequest {
  /** OCI's chain id of the layer and all below it. */
  readonly target: string;
  /** Of the layer's blob; undefined where the client does not say. */
  readonly layer: Digest | undefined;
  /** '' where the client does not say. */
  readonly image: string;
  readonly manifest: Digest | undefined;
  /** The layers from this one on, as many as fit into a label. */
  readonly layers: readonly Digest[];
}

/** Reads the labels of a Prepare; undefined where nothing is going to be unpacked. */
export function layerRequest(labels: Labels): LayerRequest | undefined {
  const target = labels[TARGET];
  if (target === undefined || target === '') return undefined;
  return {
    target,
    layer: digest(first(labels, LAYER)),
    image: first(labels, IMAGE) ?? '',
    manifest: digest(first(labels, MANIFEST)),
    layers: (first(labels, LAYERS) ?? '').split(',').flatMap((text) => digest(text) ?? []),
  };
}

function first(labels: Labels, names: readonly string[]): string | undefined {
  return names.map((name) => labels[name]).find((value) => value !== undefined && value !== '');
}

function digest(text: string | undefined): Digest | undefined {
  if (text === undefined || !text.startsWith('sha256:') || !isDigest(text.slice('sha256:'.length))) return undefined;
  return parseDigest(text);
}

/** Throws invalid-argument for a label that containerd would not take either. */
export function checkLabels(labels: Labels): void {
  for (const [key, value] of Object.entries(labels)) {
    const size = Buffer.byteLength(key) + Buffer.byteLength(value);
    if (size > MAX_LABEL) {
      throw new GearError(
        'invalid-argument',
        `label ${JSON.stringify(key.slice(0, 64))} and its value have ${size} bytes; ${MAX_LABEL} are possible`,
      );
    }
  }
}

/**
 * The labels after an update: all replaced without paths; else `labels` replaces all and `labels.KEY` sets one, or removes it where the new ones do
 * not have it. Throws invalid-argument for any other path.
 */
export function updatedLabels(old: Labels, wanted: Labels, paths: readonly string[]): Labels {
  if (paths.length === 0) return wanted;
  let labels = new Map(Object.entries(old));
  for (const path of paths) {
    if (path === 'labels') labels = new Map(Object.entries(wanted));
    else if (path.startsWith('labels.')) {
      const key = path.slice('labels.'.length);
      const value = wanted[key];
      if (value === undefined || value === '') labels.delete(key);
      else labels.set(key, value);
    } else throw new GearError('invalid-argument', `the field ${JSON.stringify(path)} of a snapshot cannot be changed`);
  }
  return Object.fromEntries(labels);
}
