import { describe, expect, it } from 'vitest';
import { VERSION } from '#core/version.ts';
import type { Finding, ProbeName } from '../kernel/probe.ts';
import { check, isFine } from './check.ts';
import { readDockerFacts } from './docker.ts';
import { dockerChecks } from './docker-checks.ts';
import { type DriverFacts, driverChecks } from './driver.ts';
import { featureChecks } from './kernel-checks.ts';
import { type ManagerFacts, managerChecks } from './manager.ts';
import { type Place, placeChecks } from './place.ts';
import { reportText } from './report.ts';
import { toolChecks } from './tools.ts';

const states = (checks: readonly { id: string; state: string }[]) =>
  Object.fromEntries(checks.map(({ id, state }) => [id, state]));

describe('checks of the kernel', () => {
  const names = featureChecks(
    new Proxy({}, { get: () => ({ works: true, detail: 'yes' }) }) as Record<ProbeName, Finding>,
  );
  const all = (works: (name: string) => boolean) =>
    featureChecks(
      new Proxy({}, { get: (_, name) => ({ works: works(String(name)), detail: 'why' }) }) as Record<
        ProbeName,
        Finding
      >,
    );

  it('are ok where everything works, and then give no advice', () => {
    expect(names.every(({ state, cost }) => state === 'ok' && cost === undefined)).toBe(true);
    expect(names.length).toBe(12);
  });

  it('tell what is needed from what is only better', () => {
    const checks = all(() => false);
    expect(states(checks)).toMatchObject({
      'kernel.overlay': 'missing',
      'kernel.data-layers': 'missing',
      'kernel.fuse-passthrough': 'warning',
      'kernel.erofs-loop': 'warning',
      'root.hard-links': 'missing',
      'root.user-xattrs': 'warning',
    });
    expect(checks.every(({ cost, remedy }) => cost !== undefined && remedy !== undefined)).toBe(true);
    expect(isFine(checks)).toBe(false);
  });

  it('want no loop device where EROFS mounts files', () => {
    expect(states(all((name) => name !== 'erofs-loop'))['kernel.erofs-loop']).toBe('ok');
    expect(states(all((name) => name !== 'erofs-file'))).toMatchObject({
      'kernel.erofs-file': 'warning',
      'kernel.erofs-loop': 'ok',
    });
  });
});

describe('checks of the root filesystem', () => {
  const place: Place = {
    root: '/r',
    existing: '/',
    filesystem: 'ext4',
    overlayUpper: true,
    freeBytes: 50e9,
    freeInodes: 1e6,
  };
  it.each([
    [{}, { 'root.filesystem': 'ok', 'root.space': 'ok', 'root.inodes': 'ok' }],
    [
      { freeBytes: 5e9, freeInodes: 50_000 },
      { 'root.space': 'warning', 'root.inodes': 'warning' },
    ],
    [
      { freeBytes: 5e8, freeInodes: 50 },
      { 'root.space': 'missing', 'root.inodes': 'missing' },
    ],
    [
      { freeInodes: undefined, overlayUpper: false },
      { 'root.filesystem': 'missing', 'root.inodes': 'ok' },
    ],
  ])('with %j', (change, expected) => {
    expect(states(placeChecks({ ...place, ...change }))).toMatchObject(expected);
  });
});

describe('checks of Docker', () => {
  const version = (server: object | null) => JSON.stringify({ Client: { Version: '28.2.2' }, Server: server });
  const info = (more: object) => JSON.stringify({ Driver: 'overlay2', DockerRootDir: '/d', ...more });
  const of = (v: string, i: string, daemon = '', error = '') =>
    states(dockerChecks(readDockerFacts(v, i, daemon, error), 'gear'));

  it('are ok for an engine that uses the driver', () => {
    const checks = dockerChecks(
      readDockerFacts(version({ Version: '20.10.24+dfsg1', Experimental: true }), info({ Driver: 'gear' }), '', ''),
      'gear',
    );
    expect(checks.every(({ state }) => state === 'ok')).toBe(true);
    expect(checks).toHaveLength(5);
  });

  it('miss --experimental, and warn of another storage driver', () => {
    expect(of(version({ Version: '26.1.0', Experimental: false }), info({}))).toMatchObject({
      'docker.engine': 'ok',
      'docker.flags': 'missing',
      'docker.storage-driver': 'warning',
    });
  });

  it('name the variable that engine 27 needs', () => {
    const facts = readDockerFacts(version({ Version: '27.5.1', Experimental: true }), info({}), '', '');
    expect(dockerChecks(facts, 'gear').find(({ id }) => id === 'docker.flags')).toMatchObject({
      state: 'warning',
      remedy: expect.stringContaining('DOCKERD_DEPRECATED_GRAPHDRIVER_PLUGINS=1'),
    });
  });

  it('refuse engines that have no graphdriver plugins, and images in containerd', () => {
    expect(of(version({ Version: '28.0.0', Experimental: true }), info({}))['docker.engine']).toBe('missing');
    const store = { DriverStatus: [['driver-type', 'io.containerd.snapshotter.v1']] };
    expect(of(version({ Version: '25.0.0', Experimental: true }), info(store))['docker.image-store']).toBe('missing');
  });

  it('take a newer engine that keeps its images in a containerd that knows Gear', () => {
    const store = (Driver: string) => info({ Driver, DriverStatus: [['driver-type', 'io.containerd.snapshotter.v1']] });
    const through = (driver: string, knows: boolean) =>
      states(dockerChecks(readDockerFacts(version({ Version: '28.3.0' }), store(driver), '', ''), 'gear', knows));
    expect(through('gear', true)).toEqual({
      'docker.client': 'ok',
      'docker.engine': 'ok',
      'docker.storage-driver': 'ok',
    });
    expect(through('overlayfs', true)).toMatchObject({ 'docker.engine': 'ok', 'docker.storage-driver': 'warning' });
    expect(through('gear', false)).toMatchObject({ 'docker.engine': 'missing' });
  });

  it('say less where no engine answers', () => {
    const daemon = 'Docker version 20.10.24+dfsg1, build 5d6db84';
    const facts = readDockerFacts(version(null), '', daemon, 'a\nCannot connect');
    expect(facts).toMatchObject({
      client: '28.2.2',
      daemon: '20.10.24+dfsg1',
      engine: undefined,
      error: 'Cannot connect',
    });
    expect(of(version(null), '', daemon)).toEqual({ 'docker.client': 'ok', 'docker.engine': 'warning' });
    expect(of(version(null), '')).toEqual({ 'docker.client': 'ok', 'docker.engine': 'missing' });
    expect(of('', 'no json', 'Docker version 28.1.0, build x')).toEqual({
      'docker.client': 'warning',
      'docker.engine': 'missing',
    });
  });
});

describe('checks of the driver', () => {
  const running: DriverFacts = {
    root: '/r',
    address: '/run/gear.sock',
    implements: ['GraphDriver'],
    pluginError: '',
    status: { version: VERSION, manager: 'm:1', managerAway: false, images: [] },
    statusError: '',
  };
  const absent = { ...running, implements: undefined, status: undefined };

  it('are ok where it runs', () => {
    expect(states(driverChecks(running, true))).toEqual({ 'driver.plugin': 'ok', 'driver.status': 'ok' });
  });
  it('only warn before installation, and miss it where dockerd uses it', () => {
    expect(states(driverChecks(absent, false))).toEqual({ 'driver.plugin': 'warning', 'driver.status': 'warning' });
    expect(states(driverChecks(absent, true))).toEqual({ 'driver.plugin': 'missing', 'driver.status': 'missing' });
  });
  it('miss one that does not answer or is something else', () => {
    expect(states(driverChecks({ ...absent, pluginError: 'refused' }, false))['driver.plugin']).toBe('missing');
    const other = driverChecks({ ...absent, implements: ['VolumeDriver'] }, false)[0];
    expect(other).toMatchObject({ state: 'missing', found: expect.stringContaining('VolumeDriver') });
  });
  it('warn of another version', () => {
    const old = { ...running, status: { version: '0.0.0', manager: 'm:1', managerAway: false, images: [] } };
    expect(states(driverChecks(old, true))['driver.status']).toBe('warning');
  });
});

describe('checks of the manager', () => {
  const facts: ManagerFacts = {
    ...{ address: 'm:2019', given: true, health: 'SERVING', error: '', httpAddress: 'm:2020', version: VERSION },
    ...{ clockDifference: 300, certificateEnd: undefined },
  };
  const days = (count: number) => Date.now() + count * 86_400_000;
  it.each([
    [{}, { 'manager.serving': 'ok', 'manager.version': 'ok', 'manager.clock': 'ok' }],
    [
      { clockDifference: -90_000, version: '0.0.0' },
      { 'manager.version': 'warning', 'manager.clock': 'warning' },
    ],
    [
      { clockDifference: undefined, version: undefined },
      { 'manager.version': 'unknown', 'manager.clock': 'unknown' },
    ],
    [{ health: undefined, error: 'refused' }, { 'manager.serving': 'missing' }],
    [{ health: undefined, error: 'refused', given: false }, { 'manager.serving': 'warning' }],
    [{ health: 'NOT_SERVING' }, { 'manager.serving': 'missing' }],
    [{ certificateEnd: days(60) }, { 'manager.serving': 'ok', 'manager.certificate': 'ok' }],
    [{ certificateEnd: days(3) }, { 'manager.serving': 'ok', 'manager.certificate': 'warning' }],
    [
      { certificateEnd: days(-1), health: undefined, error: 'x' },
      { 'manager.serving': 'missing', 'manager.certificate': 'missing' },
    ],
  ])('with %j', (change, expected) => {
    expect(states(managerChecks({ ...facts, ...change }))).toMatchObject(expected);
  });
  it('say what keeps a node out', () => {
    const remedy = (error: string) => managerChecks({ ...facts, health: undefined, error })[0]?.remedy;
    expect(remedy('Check at m: TLS: m speaks no TLS')).toContain('give --tls-ca');
    expect(remedy('Check at m: a token that this manager knows is needed')).toContain('give --token-file');
    expect(remedy('connect ECONNREFUSED')).toContain('start gear manager');
  });
  it('say which way a clock is wrong', () => {
    const clock = (clockDifference: number) => managerChecks({ ...facts, clockDifference })[2]?.found;
    expect(clock(90_000)).toBe("90.0 s behind the manager's");
    expect(clock(-90_000)).toBe("90.0 s ahead of the manager's");
  });
});

describe('the report', () => {
  it('is aligned, grouped, and ends with what it comes to', () => {
    const checks = [
      check('kernel.a', 'short', 'ok', 'yes'),
      check('kernel.b', 'much longer', 'missing', 'first\n second', { cost: 'all', remedy: 'buy' }),
      check('tools.c', 'tool', 'unknown', ''),
    ];
    expect(reportText(checks, { colour: false })).toBe(`Kernel
  ok       short        yes
  MISSING  much longer  first second
           costs: all
           get it: buy

Tools
  -        tool

1 thing that Gear needs is missing.
`);
    expect(reportText(checks, { colour: true })).toContain('\x1b[31;1mMISSING\x1b[0m  much');
    expect(isFine(checks)).toBe(false);
    expect(reportText(toolChecks(new Map()), { colour: false })).toContain('All that Gear needs is there. 2 warnings.');
  });
});
