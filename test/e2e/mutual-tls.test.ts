import { readFileSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { connect } from '#core/grpc/client.ts';
import { MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { findProcesses } from '../../deploy/sandbox/cleanup.ts';
import { gear, gearJson, startManager, type TestManager } from '../../deploy/sandbox/gear.ts';
import { type Registry, startRegistry } from '../../deploy/sandbox/registry.ts';
import type { NodeStatus } from '../../driver/status/node-status.ts';
import { pushImage, quickImage, smallContent } from '../images/quick.ts';
import { type GearNode, startNode } from '../support/cluster.ts';
import { makePki, type Pki } from '../support/pki.ts';

const DEADLINE = 4;
const path = (number: number): string => `/data/small/${String(number).padStart(4, '0')}`;

describe('a node of a manager with mutual TLS and tokens', () => {
  const stack = new AsyncDisposableStack();
  let pki: Pki;
  let registry: Registry;
  let manager: TestManager;
  let node: GearNode;
  let id: string;

  beforeAll(async () => {
    pki = stack.use(await makePki('node1'));
    registry = stack.use(await startRegistry());
    const args = [...pki.managerArgs, '--upstream', registry.host];
    manager = stack.use(await startManager({ insecureRegistries: [registry.host], args }));
    const source = `docker://${registry.host}/quick:1`;
    await pushImage(quickImage(), source);
    const converted = await gear(['convert', '--manager', manager.address, ...pki.nodeArgs('node1'), source]);
    expect(converted).toMatchObject({ exitCode: 0 });
    const containerd = ['--containerd-socket', pki.file('containerd.sock')];
    node = stack.use(
      await startNode(manager, {
        driver: { args: [...pki.nodeArgs('node1'), ...containerd, '--fetch-deadline', String(DEADLINE)] },
      }),
    );
    id = await node.docker.detached(`${registry.host}/quick-gear:1`, ['sleep', '100000']);
  });
  afterAll(() => stack.disposeAsync());

  const read = async (number: number) => await node.docker.attempt(['exec', id, 'cat', path(number)]);
  const text = async () => (await gear(['status', '--root', node.driver.root])).stdout;

  it('runs containers, reports to the monitor, and is told from others', async () => {
    expect(await read(1)).toMatchObject({ exitCode: 0, stdout: smallContent(1).trimEnd() });
    const status = await node.status();
    expect(status).toMatchObject({ managerAway: false, managerAwayReason: '', images: [{ state: 'lazy' }] });
    expect(status.access).toEqual({
      ca: pki.file('nodes/node1/ca.crt'),
      cert: pki.file('nodes/node1/node.crt'),
      key: pki.file('nodes/node1/node.key'),
      tokenFile: pki.file('nodes/node1/token'),
    });
    using monitor = connect(manager.monitor, 'monitor', status.access);
    await until('a heartbeat', async () => (await monitor.unary(MonitorService.listNodes, {})).nodes.length === 1);
    // As the running driver is, with nothing said.
    const http = ['--manager-http', manager.http];
    const { checks } = JSON.parse((await gear(['doctor', '--root', node.driver.root, ...http, '--json'])).stdout) as {
      checks: { id: string; state: string }[];
    };
    for (const wanted of ['manager.serving', 'manager.certificate', 'manager.version', 'manager.clock']) {
      expect(checks).toContainEqual(expect.objectContaining({ id: wanted, state: 'ok' }));
    }
  });

  it('shows its token nowhere but to the manager', async () => {
    const token = await pki.token('node1');
    const run = join(node.driver.root, 'run');
    const files = (await readdir(run, { withFileTypes: true })).filter((entry) => entry.isFile());
    const pids = await findProcesses(({ commandLine }) => commandLine.includes(node.driver.root));
    expect(pids.length).toBeGreaterThanOrEqual(3);
    const places = [
      ...files.map(({ name }) => readFileSync(join(run, name), 'utf8')),
      ...pids.flatMap((pid) => ['cmdline', 'environ'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'utf8'))),
      node.driver.process.output,
      JSON.stringify(await gearJson<NodeStatus>(['status', '--root', node.driver.root])),
    ];
    for (const place of places) expect(place.includes(token)).toBe(false);
  });

  it('gives its sockets to root only', async () => {
    const run = join(node.driver.root, 'run');
    const sockets = (await readdir(run, { withFileTypes: true })).filter((entry) => entry.isSocket());
    const paths = [node.driver.socket, pki.file('containerd.sock'), ...sockets.map(({ name }) => join(run, name))];
    expect(paths.length).toBeGreaterThanOrEqual(4);
    for (const socket of paths) {
      const { mode, uid } = await stat(socket);
      expect([socket, (mode & 0o777).toString(8), uid]).toEqual([socket, '600', 0]);
      const nobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups', 'test', '-w', socket];
      expect((await execa('setpriv', nobody, { reject: false })).exitCode).toBe(1);
    }
  });

  it('reads on from its caches when its token is revoked, says why the rest fails, and takes another one by itself', async () => {
    await pki.ca(['token', 'spare']);
    await pki.ca(['revoke', 'node1']);
    await until('the revocation', () => manager.process.output.includes('"revoked":["node1"]'));
    expect(await read(1)).toMatchObject({ exitCode: 0 });
    const began = performance.now();
    expect(await read(2)).toMatchObject({
      exitCode: 1,
      stdout: '',
      stderr: expect.stringMatching(/I\/O error|Input\/output error/),
    });
    expect(performance.now() - began).toBeGreaterThan((DEADLINE - 1) * 1000);
    expect(await text()).toMatch(/Manager: .*\(away: .*--token-file .*token: there is no such file/);
    await copyFile(pki.file('tokens.d/admin'), pki.file('nodes/node1/token'));
    await pki.ca(['revoke', 'admin']);
    await until('its revocation', () => manager.process.output.includes('"revoked":["admin"]'));
    const refused = read(3);
    await until('the reason', async () => /away: .*a token that this manager knows is needed/.test(await text()));
    await copyFile(pki.file('tokens.d/spare'), pki.file('nodes/node1/token'));
    await refused;
    await until('a read with the new token', async () => (await read(3)).exitCode === 0, { timeout: 20_000 });
    expect(await read(3)).toMatchObject({ stdout: smallContent(3).trimEnd() });
  });

  it('takes a manager that is not the right one for none, says so, and goes on when the right one is back', async () => {
    await using other = await makePki();
    await copyFile(pki.file('ca.crt'), pki.file('right.crt'));
    await copyFile(other.file('ca.crt'), pki.file('nodes/node1/ca.crt'));
    await manager.stop();
    await manager.start();
    const waiting = read(4);
    await until('the reason', async () =>
      /away: .*TLS: the certificate of \S+ is of another CA than that in/.test(await text()),
    );
    expect(await read(1)).toMatchObject({ exitCode: 0 });
    const log = await readFile(join(node.driver.root, 'run', 'objectfs.log'), 'utf8');
    expect(log).toMatch(/asking again: .*TLS: the certificate of \S+ is of another CA/);
    const doctor = await gear(['doctor', '--root', node.driver.root]);
    expect(doctor.stdout).toMatch(/MISSING {2}manager .*TLS: the certificate of \S+ is of another CA/);
    await copyFile(pki.file('right.crt'), pki.file('nodes/node1/ca.crt'));
    await waiting;
    await until('a read', async () => (await read(4)).exitCode === 0, { timeout: 20_000 });
    expect(await read(4)).toMatchObject({ stdout: smallContent(4).trimEnd() });
  });

  it('pulls from the registry endpoint with what registries know: a certificate, and the token as a password', async () => {
    const certs = pki.file('certs');
    await mkdir(certs);
    await copyFile(pki.file('ca.crt'), join(certs, 'ca.crt'));
    await copyFile(pki.file('nodes/node1/node.crt'), join(certs, 'client.cert'));
    await copyFile(pki.file('nodes/node1/node.key'), join(certs, 'client.key'));
    const authfile = pki.file('auth.json');
    const inspect = async () =>
      await execa(
        'skopeo',
        ['inspect', '--raw', '--cert-dir', certs, '--authfile', authfile, `docker://${manager.http}/quick:1`],
        { reject: false },
      );
    await pki.ca(['token', 'puller']);
    const [, token = ''] = (await readFile(pki.file('tokens.d/puller'), 'utf8')).trim().split(' ');
    const login = async (input: string) =>
      await execa(
        'skopeo',
        ['login', '--cert-dir', certs, '--authfile', authfile, '-u', 'puller', '--password-stdin', manager.http],
        { input, reject: false },
      );
    expect((await login('not-the-token-of-anybody')).stderr).toMatch(/invalid username\/password|unauthorized/);
    await until('the new token', async () => (await login(token)).exitCode === 0);
    const { exitCode, stdout } = await inspect();
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining('"layers"')]);
  });
});
