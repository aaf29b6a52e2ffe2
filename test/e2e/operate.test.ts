import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { request as overTls } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gear, projectRoot, startManager, type TestManager } from '../../deploy/sandbox/gear.ts';
import { type Registry, startRegistry } from '../../deploy/sandbox/registry.ts';
import { pushImage, quickImage } from '../images/quick.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { convertImage, type GearNode, startNode } from '../support/cluster.ts';

const deployed = async (name: string) => await readFile(join(projectRoot, 'deploy', name), 'utf8');

/** The block of commands of the guide that begins with these words. */
async function commandsOf(beginning: string): Promise<string> {
  const blocks = (await deployed('GUIDE.md')).split('\n\n').map((block) => block.replaceAll(/^ {4}/gm, ''));
  const found = blocks.filter((block) => block.startsWith(beginning));
  expect(found).toHaveLength(1);
  return found[0] as string;
}

/** Metrics of a text of Prometheus, with the names of the labels that they have. */
function metricsIn(exposition: string): Map<string, Set<string>> {
  const metrics = new Map<string, Set<string>>();
  for (const [, name] of exposition.matchAll(/^# TYPE (\S+)/gm)) metrics.set(name as string, new Set());
  for (const [, name, labels] of exposition.matchAll(/^([a-z_]+)\{(.*)\} /gm)) {
    for (const [, label] of (labels as string).matchAll(/([a-z_]+)="/g))
      metrics.get(name as string)?.add(label as string);
  }
  return metrics;
}

/** What a request is answered with. */
async function body(asked: ClientRequest): Promise<string> {
  const [response] = (await once(asked.end(), 'response')) as [IncomingMessage];
  expect(response.statusCode).toBe(200);
  return await text(response);
}

describe('what the guide says of operating', () => {
  const stack = new AsyncDisposableStack();
  let registry: Registry;
  let manager: TestManager;
  let node: GearNode;
  let image: string;

  beforeAll(async () => {
    registry = stack.use(await startRegistry());
    const args = ['--watch', `docker://${registry.host}/watched`];
    manager = stack.use(await startManager({ insecureRegistries: [registry.host], args }));
    node = stack.use(await startNode(manager));
    const plain = `docker://${registry.host}/app:1`;
    image = `${registry.host}/app-gear:1`;
    await pushImage(quickImage(), plain);
    await convertImage(manager, plain, `docker://${image}`);
    expect(await node.docker.once(image, ['cat', '/data/tree/one/leaf'])).toBe('leaf of one');
  });
  afterAll(() => stack.disposeAsync());

  it('names metrics, in the dashboard and in the rules, that managers and drivers have', async () => {
    await using folder = await temporaryFolder();
    const pki = join(folder.path, 'pki');
    await execa(join(projectRoot, 'deploy/ca'), [pki, 'manager', '127.0.0.1']);
    // Some there are only with TLS.
    const tls = ['--tls-cert', join(pki, 'manager.crt'), '--tls-key', join(pki, 'manager.key')];
    await using secure = await startManager({ args: tls });
    const ca = await readFile(join(pki, 'ca.crt'));
    const [host, port] = secure.http.split(':');
    const socketPath = join(node.driver.root, 'run/driver.sock');
    const texts = [
      await (await fetch(`http://${manager.http}/metrics`)).text(),
      await body(overTls({ host, port, ca, agent: false, path: '/metrics' })),
      await body(request({ socketPath, path: '/metrics' })),
    ];
    const known = metricsIn(texts.join('\n'));
    expect(known.size).toBeGreaterThan(25);

    const dashboard = JSON.parse(await deployed('grafana/gear.json'));
    const panels: { title: string; targets?: { expr: string }[] }[] = dashboard.panels;
    const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    const rules = [...(await deployed('grafana/alerts.yml')).matchAll(/^ +expr: (.*)$/gm)].map(
      ([, expr]) => expr as string,
    );
    expect(expressions.length).toBeGreaterThan(20);
    expect(rules.length).toBeGreaterThan(5);
    const used = new Set<string>();
    for (const expression of [...expressions, ...rules]) {
      const names = [...expression.matchAll(/\bgear_[a-z_]+/g)].map(([name]) => name);
      for (const name of names) {
        used.add(name);
        expect([...known.keys()]).toContain(name);
      }
      // "instance" is the collector's own.
      const labels = [...expression.matchAll(/by \(([a-z]+)\)|\{([a-z]+)=/g)].map(([, by, selected]) => by ?? selected);
      for (const label of labels.filter((name) => name !== 'instance' && name !== 'mountpoint')) {
        expect(names.some((name) => known.get(name)?.has(label as string))).toBe(true);
      }
    }
    // Whoever adds a metric is to show it, or to say here why not.
    const unshown = [
      'gear_indexes',
      'gear_served_ranges_total',
      'gear_uploaded_objects_total',
      'gear_watched_ready',
      'gear_watched_ignored',
    ];
    expect([...known.keys()].filter((name) => !used.has(name)).sort()).toEqual(unshown.sort());
  });

  it('backs the store up while it is written to, and restores it whole', async () => {
    await using folder = await temporaryFolder();
    const backup = join(folder.path, 'backup');
    const restored = join(folder.path, 'manager');
    const here = (commands: string, store: string) =>
      commands.replaceAll('/var/lib/gear-manager', store).replaceAll('/srv/gear-backup', backup);

    let stop = false;
    const writing = (async () => {
      for (let number = 0; !stop; number += 1) {
        const plain = `docker://${registry.host}/more:${number}`;
        await pushImage(quickImage(`more ${number}`), plain);
        await convertImage(manager, plain, `docker://${registry.host}/more-gear:${number}`);
      }
    })();
    try {
      const commands = here(await commandsOf('store='), manager.root);
      // The second time as every night: what is there is not copied again.
      for (let time = 0; time < 2; time += 1) await execa('bash', ['-euc', commands], { stdin: 'ignore' });
    } finally {
      stop = true;
      await writing;
    }

    // What follows on the guide's side is for systemd: stopping, the user of the service, starting.
    const [restore] = (await commandsOf('systemctl stop gear-manager\nrsync'))
      .split('\n')
      .filter((line) => line.startsWith('rsync'));
    await execa('bash', ['-euc', here(restore as string, restored)], { stdin: 'ignore' });
    const { exitCode, stdout } = await gear(['manager', '--root', restored, '--verify', '--log-level', 'error']);
    expect(stdout).toMatch(/objects .* and \d+ indexes are whole/);
    expect(exitCode).toBe(0);

    await using other = await startManager({ insecureRegistries: [registry.host], place: folder.path });
    await using fresh = await startNode(other);
    expect(await fresh.docker.once(image, ['cat', '/data/tree/two/new'])).toBe('the only one here');
    expect((await fresh.fetched()).bytes).toBeGreaterThan(0);
  });
});
