import { describe, expect, it } from 'vitest';
import { check } from './check.ts';
import { type ContainerdFacts, readContainerdConfig, readContainerdVersion } from './containerd.ts';
import { containerdChecks } from './containerd-checks.ts';
import { PrintedToml } from './printed-toml.ts';
import { reportText } from './report.ts';

/** Of what containerd 1.6.20 printed with deploy/containerd/containerd-1.toml, the tables around what is read. */
const DUMP_1 = `disabled_plugins = []
imports = ["/etc/containerd/config.toml"]
oom_score = 0
root = "/var/lib/containerd"
version = 2

[grpc]
  address = "/run/containerd/containerd.sock"
  gid = 0

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    disable_apparmor = false
    sandbox_image = "registry.k8s.io/pause:3.6"

    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"

    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"
      disable_snapshot_annotations = false
      discard_unpacked_layers = false
      no_pivot = false
      snapshotter = "gear"

      [plugins."io.containerd.grpc.v1.cri".containerd.default_runtime]
        container_annotations = []
        snapshotter = ""

  [plugins."io.containerd.snapshotter.v1.overlayfs"]
    root_path = ""

[proxy_plugins]

  [proxy_plugins.gear]
    address = "/run/gear/containerd.sock"
    type = "snapshot"

[stream_processors]
`;

/** The same as the documentation of containerd 2 (docs/cri/config.md) shows its output: other names, literal strings. */
const DUMP_2 = `version = 3
root = '/var/lib/containerd'
disabled_plugins = []
imports = ['/etc/containerd/config.toml']

[plugins]
  [plugins.'io.containerd.cri.v1.images']
    snapshotter = 'gear'
    disable_snapshot_annotations = false
    discard_unpacked_layers = false
    image_pull_progress_timeout = '5m0s'

    [plugins.'io.containerd.cri.v1.images'.pinned_images]
      sandbox = 'registry.k8s.io/pause:3.10'

  [plugins.'io.containerd.grpc.v1.cri']
    disable_tcp_service = true

  [plugins.'io.containerd.transfer.v1.local']
    max_concurrent_downloads = 3

    [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
      platform = 'linux/amd64'
      snapshotter = 'gear'

[proxy_plugins]
  [proxy_plugins.gear]
    type = 'snapshot'
    address = 'unix:///run/gear/containerd.sock'
    platform = ''
    capabilities = []

    [proxy_plugins.gear.exports]
      enable_remote_snapshot_annotations = 'true'
      root = '/var/lib/gear'
`;

const FACTS: ContainerdFacts = {
  version: '1.6.20~ds1',
  config: readContainerdConfig(DUMP_1),
  configError: '',
  socket: '/run/gear/containerd.sock',
  wanted: true,
  socketError: '',
};

function statesOf(change: Partial<ContainerdFacts>): Record<string, string> {
  const checks = containerdChecks({ ...FACTS, ...change });
  for (const { id, state, cost, remedy } of checks) {
    expect([id, cost === undefined, remedy === undefined]).toEqual([id, state === 'ok', state === 'ok']);
  }
  return Object.fromEntries(checks.map(({ id, state }) => [id.replace('containerd.', ''), state]));
}

const FINE = {
  version: 'ok',
  socket: 'ok',
  'proxy-plugin': 'ok',
  'cri-snapshotter': 'ok',
  'cri-annotations': 'ok',
};

describe("containerd's configuration", () => {
  it('is read as 1.x prints it', () => {
    expect(FACTS.config).toEqual({
      proxy: { type: 'snapshot', address: '/run/gear/containerd.sock', remoteAnnotations: false },
      cri: { snapshotter: 'gear', annotations: true },
    });
  });

  it('is read as 2.x prints it', () => {
    expect(readContainerdConfig(DUMP_2)).toEqual({
      proxy: { type: 'snapshot', address: '/run/gear/containerd.sock', remoteAnnotations: true },
      cri: { snapshotter: 'gear', annotations: true },
    });
  });

  it("has no CRI where that is off, and containerd's default of annotations where none are named", () => {
    const off = DUMP_1.replace('disabled_plugins = []', 'disabled_plugins = ["a", "io.containerd.grpc.v1.cri"]');
    expect(readContainerdConfig(off).cri).toBeUndefined();
    const silent = DUMP_1.replace('disable_snapshot_annotations = false', '');
    expect(readContainerdConfig(silent).cri).toEqual({ snapshotter: 'gear', annotations: false });
    expect(readContainerdConfig('version = 2\n')).toEqual({ proxy: undefined, cri: undefined });
  });

  it('keeps what stands in an array of tables out of the table before', () => {
    const toml = new PrintedToml(`[a."b.c"]\n x = "1"\n[[a."b.c".d]]\n x = "2"\n[e]\n"k y" = 'a\\b'\nz = "\\"q\\""`);
    expect(toml.text('a', 'b.c', 'x')).toBe('1');
    expect(toml.text('e', 'k y')).toBe('a\\b');
    expect(toml.text('e', 'z')).toBe('"q"');
    expect([toml.hasTable('a', 'b.c'), toml.hasTable('a', 'b.c', 'd')]).toEqual([true, false]);
  });

  it.each([
    ['containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3', '1.6.20~ds1'],
    ['containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7', '2.1.4'],
    ['something else', undefined],
  ])('has the version of %j', (text, version) => {
    expect(readContainerdVersion(text)).toBe(version);
  });
});

describe('checks of containerd', () => {
  it('are ok where all is configured', () => {
    expect(statesOf({})).toEqual(FINE);
    expect(statesOf({ version: '2.1.4', config: readContainerdConfig(DUMP_2) })).toEqual({
      ...FINE,
      'transfer-annotations': 'ok',
    });
  });

  it('miss nothing where nobody speaks of containerd', () => {
    const config = readContainerdConfig(DUMP_1.replace('[proxy_plugins.gear]', '').replaceAll('"gear"', '"overlayfs"'));
    const states = statesOf({ wanted: false, config, socketError: 'nothing there' });
    expect(states).toEqual({
      ...{ ...FINE, socket: 'unknown', 'proxy-plugin': 'unknown', 'cri-snapshotter': 'unknown' },
    });
    expect(statesOf({ wanted: false, version: undefined, config: undefined, socketError: 'nothing there' })).toEqual({
      version: 'unknown',
      socket: 'unknown',
    });
  });

  it.each<[string, Partial<ContainerdFacts>, Record<string, string>]>([
    ['an old containerd', { version: '1.4.13' }, { version: 'missing' }],
    ['no answer', { wanted: false, socketError: 'refused' }, { socket: 'missing' }],
    ['another socket', { socket: '/run/other.sock' }, { 'proxy-plugin': 'missing' }],
    [
      'no snapshotter',
      { config: readContainerdConfig(DUMP_1.replace('type = "snapshot"', 'type = "content"')) },
      { 'proxy-plugin': 'missing' },
    ],
    [
      'an unconfigured containerd',
      { config: readContainerdConfig('version = 2\n') },
      { 'proxy-plugin': 'missing', 'cri-snapshotter': 'unknown', 'cri-annotations': 'none' },
    ],
    [
      "another snapshotter of CRI's",
      { config: readContainerdConfig(DUMP_1.replace('snapshotter = "gear"', 'snapshotter = "overlayfs"')) },
      { 'cri-snapshotter': 'warning' },
    ],
    [
      'no annotations',
      { config: readContainerdConfig(DUMP_1.replace('annotations = false', 'annotations = true')) },
      { 'cri-annotations': 'missing' },
    ],
    ['no annotations of transfers', { version: '2.2.0' }, { 'transfer-annotations': 'warning' }],
    ['none before 2.1', { version: '2.0.5' }, { 'transfer-annotations': 'none' }],
    ['a broken file', { config: undefined, configError: 'line 3' }, { config: 'warning', 'proxy-plugin': 'none' }],
  ])('with %s', (_what, change, expected) => {
    const states = statesOf(change);
    const found = Object.fromEntries(Object.keys(expected).map((id) => [id, states[id] ?? 'none']));
    expect(found).toEqual(expected);
  });

  it('name the file that fits the version, and stand under a title', () => {
    const config = readContainerdConfig('version = 3\n');
    const remedies = containerdChecks({ ...FACTS, version: '2.1.4', config }).map(({ remedy }) => remedy);
    expect(remedies.join('\n')).toContain('deploy/containerd/containerd-2.toml');
    expect(reportText([check('containerd.version', 'version', 'ok', '1')], { colour: false })).toMatch(
      /^containerd \(/,
    );
  });
});
