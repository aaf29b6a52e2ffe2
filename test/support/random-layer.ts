import type { LayerEntry } from './layer-tar.ts';
import type { Random } from './random.ts';

const NAMES = ['a', 'b', 'c', 'd'];

/**
 * Entries of a layer over a handful of names, so that they meet each other: types replaced by others, names that come twice, whiteouts and opaque
 * markers before and after what they concern, parents left out, hard links forwards, backwards and to the layer below.
 */
export function randomLayer(random: Random, count: number): LayerEntry[] {
  const path = () => Array.from({ length: random.int(1, 3) }, () => random.pick(NAMES)).join('/');
  const time = () => ({
    mtimeSeconds: random.int(1, 2 ** 31),
    mtimeNanoseconds: random.chance(0.5) ? 0 : random.int(0, 999_999_999),
  });
  const metadata = () => ({
    ...time(),
    mode: random.pick([0o644, 0o755, 0o4711, 0o1777, 0]),
    uid: random.int(0, 3),
    gid: random.int(0, 70_000),
    xattrs: random.chance(0.2) ? { 'user.x': random.bytes(3), 'trusted.overlay.opaque': 'y' } : {},
  });
  const entries: LayerEntry[] = [];
  for (let made = 0; made < count; made++) {
    const at = path();
    const dice = random.next();
    if (dice < 0.3) entries.push({ ...metadata(), path: `${at}/` });
    else if (dice < 0.55) entries.push({ ...metadata(), path: at, body: random.bytes(random.int(0, 20)) });
    else if (dice < 0.65) entries.push({ ...time(), path: at, link: path(), uid: random.int(0, 9) });
    else if (dice < 0.7) entries.push({ ...time(), path: at, type: 'fifo' });
    else if (dice < 0.73) entries.push({ path: at, type: 'character-device', major: random.int(0, 1), minor: 0 });
    else if (dice < 0.8) entries.push({ ...metadata(), path: at, type: 'hard-link', link: path(), xattrs: {} });
    else if (dice < 0.92) {
      const slash = at.lastIndexOf('/') + 1;
      entries.push({ path: `${at.slice(0, slash)}.wh.${at.slice(slash)}` });
    } else entries.push({ path: `${random.chance(0.8) ? `${at}/` : ''}.wh..wh..opq` });
  }
  return entries;
}
