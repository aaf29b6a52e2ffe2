export interface ContainerdWish {
  /** Of the program; decides the format where there is no file yet. */
  readonly major: number;
  /** Where the driver's data lies: the kubelet looks for free space there. */
  readonly root: string;
  /** Whether Kubernetes is to use Gear for all images. */
  readonly kubernetes: boolean;
}

const SOCKET = '/run/gear/containerd.sock';
/** The table that names Kubernetes' snapshotter, in version 2 and in version 3 of the configuration. */
const CRI = {
  2: 'plugins."io.containerd.grpc.v1.cri".containerd',
  3: "plugins.'io.containerd.cri.v1.images'",
} as const;

const plain = (name: string) => name.replaceAll(/["'\s]/g, '');

/** The line numbers of a table: that of its header, and the one behind its last line. Undefined where there is none. */
function findTable(lines: readonly string[], name: string): [number, number] | undefined {
  const start = lines.findIndex((line) => {
    const header = /^\s*\[([^[\]]+)\]\s*(?:#.*)?$/.exec(line)?.[1];
    return header !== undefined && plain(header) === plain(name);
  });
  if (start < 0) return undefined;
  const next = lines.findIndex((line, at) => at > start && /^\s*\[/.test(line));
  return [start, next < 0 ? lines.length : next];
}

/** The lines with these keys in that table: changed where they are there, else added. */
function setKeys(lines: readonly string[], table: string, keys: Readonly<Record<string, string>>): string[] {
  const changed = [...lines];
  if (findTable(changed, table) === undefined) changed.push('', `[${table}]`);
  for (const [key, value] of Object.entries(keys)) {
    const [start, end] = findTable(changed, table) as [number, number];
    const isKey = (line: string, at: number) =>
      at > start && at < end && new RegExp(`^\\s*["']?${key}["']?\\s*=`).test(line);
    const at = changed.findIndex(isKey);
    const indent = /^\s*/.exec(changed[start] as string)?.[0] ?? '';
    if (at < 0) changed.splice(start + 1, 0, `${indent}${key} = ${value}`);
    else if (changed[at]?.split('=')[1]?.trim() !== value)
      changed[at] = `${/^\s*/.exec(changed[at] as string)?.[0] ?? ''}${key} = ${value}`;
  }
  return changed;
}

/**
 * containerd's config.toml with what makes it know Gear, whatever else it says. Works line by line, on tables that have headers of their own. Throws for
 * the first version of that format.
 */
export function containerdConfig(text: string, { major, root, kubernetes }: ContainerdWish): string {
  const said = /^\s*version\s*=\s*(\d+)/m.exec(text)?.[1];
  const isEmpty = !/^\s*[^#\s]/m.test(text);
  const version = said === undefined ? (isEmpty ? (major >= 2 ? 3 : 2) : 1) : Number(said);
  if (version !== 2 && version !== 3) {
    throw new Error(`config.toml has version ${version}; "containerd config migrate" makes a newer one of it`);
  }
  let lines = text.replace(/\n+$/, '').split('\n');
  if (said === undefined) lines = [...(text.trim() === '' ? [] : lines), `version = ${version}`];
  lines = setKeys(lines, 'proxy_plugins.gear', { address: JSON.stringify(SOCKET), type: '"snapshot"' });
  if (version === 3) {
    lines = setKeys(lines, 'proxy_plugins.gear.exports', {
      enable_remote_snapshot_annotations: '"true"',
      root: JSON.stringify(root),
    });
  }
  if (kubernetes)
    lines = setKeys(lines, CRI[version], { disable_snapshot_annotations: 'false', snapshotter: '"gear"' });
  return `${lines.join('\n')}\n`;
}
