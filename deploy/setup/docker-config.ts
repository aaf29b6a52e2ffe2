/** How dockerd reaches Gear: as a graphdriver plugin (up to 27), or through the snapshotter of its containerd (28 and later). */
export type DockerKind = 'graphdriver' | 'containerd';

/** dockerd's daemon.json with what makes it use Gear, whatever else it says. Throws where it is not an object of JSON. */
export function dockerConfig(text: string, kind: DockerKind): string {
  const config: unknown = text.trim() === '' ? {} : JSON.parse(text);
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw new Error('daemon.json is no JSON object');
  const said = config as { features?: Record<string, unknown> };
  const features = { ...said.features, 'containerd-snapshotter': kind === 'containerd' };
  const wanted =
    kind === 'graphdriver'
      ? { ...said, experimental: true, 'storage-driver': 'gear', ...(said.features === undefined ? {} : { features }) }
      : { ...said, 'storage-driver': 'gear', features };
  // As it was, where it says all of it already.
  return JSON.stringify(config) === JSON.stringify(wanted) ? text : `${JSON.stringify(wanted, undefined, 2)}\n`;
}
