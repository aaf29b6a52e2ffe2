import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { projectRoot, startManager } from '../../deploy/sandbox/gear.ts';
import { writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';
import { quickImage } from '../images/quick.ts';
import { convertImage } from '../support/cluster.ts';
import { Random } from '../support/random.ts';
import { SnapshotsClient } from '../support/snapshots-client.ts';

/** More with GEAR_KILL_ROUNDS; every round kills at another moment of other calls. */
const ROUNDS = Number(process.env['GEAR_KILL_ROUNDS'] ?? 15);
const EXPECTED = new Set<unknown>([
  status.NOT_FOUND,
  status.ALREADY_EXISTS,
  status.FAILED_PRECONDITION,
  status.INVALID_ARGUMENT,
]);
const KILLED = new Set<unknown>([status.UNAVAILABLE, status.CANCELLED]);

/** What is known of a name: it is there, it is not, or a call that may have changed it was cut off. */
type Known = 'there' | 'gone' | 'unknown';

class Client {
  readonly known = new Map<string, Known>();
  readonly #random: Random;
  readonly #layers: readonly string[];
  #count = 0;

  constructor(seed: number, layers: readonly string[]) {
    this.#random = new Random(seed);
    this.#layers = layers;
  }

  /** One call of some kind. Throws for an answer that no such call may have. */
  async step(client: SnapshotsClient): Promise<void> {
    const names = [...this.known.keys()];
    const some = () => names[this.#random.int(0, names.length)] ?? 'nothing';
    const fresh = `key-${this.#count++}`;
    const parent = this.#random.int(0, 2) === 0 ? '' : some();
    switch (this.#random.int(0, 8)) {
      case 0:
        return await this.#try(() => client.prepare(fresh, parent), { [fresh]: 'there' });
      case 1:
        return await this.#try(() => client.view(fresh, parent), { [fresh]: 'there' });
      case 2: {
        const key = some();
        return await this.#try(() => client.commit(fresh, key), { [key]: 'gone', [fresh]: 'there' });
      }
      case 3:
      case 4: {
        const key = some();
        return await this.#try(() => client.remove(key), { [key]: 'gone' });
      }
      case 5: {
        const layer = this.#random.pick(this.#layers);
        const target = `chain-${this.#count}`;
        const labels = { 'containerd.io/snapshot.ref': target, 'containerd.io/snapshot/cri.layer-digest': layer };
        const name = await this.#lazy(client, fresh, parent, labels, target);
        if (name !== undefined) this.known.set(name, 'there');
        return;
      }
      case 6:
        return await this.#try(() => client.label(some(), { a: fresh }), {});
      case 7:
        return await this.#try(() => client.usage(some()), {});
      default:
        return await this.#try(() => client.cleanup(), {});
    }
  }

  async #lazy(
    client: SnapshotsClient,
    key: string,
    parent: string,
    labels: Record<string, string>,
    target: string,
  ): Promise<string | undefined> {
    try {
      await client.prepare(key, parent, labels);
      return key;
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (code === status.ALREADY_EXISTS) return target;
      if (EXPECTED.has(code)) return undefined;
      if (!KILLED.has(code)) throw error;
      this.known.set(key, 'unknown');
      this.known.set(target, 'unknown');
      return undefined;
    }
  }

  async #try(call: () => Promise<unknown>, outcome: Record<string, Known>): Promise<void> {
    try {
      await call();
      for (const [name, known] of Object.entries(outcome)) this.known.set(name, known);
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (EXPECTED.has(code)) return;
      if (!KILLED.has(code)) throw error;
      for (const name of Object.keys(outcome)) this.known.set(name, 'unknown');
    }
  }
}

async function start(root: string, socket: string, manager: string): Promise<RunningProcess> {
  const host = await RunningProcess.start({
    name: 'host',
    command: process.execPath,
    args: [join(projectRoot, 'test/support/containerd-host.ts'), root, socket, manager],
  });
  await host.waitForOutput(/ready/);
  return host;
}

/** What a fresh start left on the disk, against what it says. */
async function expectAgreement(root: string, client: SnapshotsClient): Promise<Set<string>> {
  const infos = await client.list();
  const folders = (await readdir(join(root, 'containers'))).filter((name) => name !== '.gear-home');
  expect(folders.filter((name) => !/^\d+$/.test(name))).toEqual([]);
  expect(folders).toHaveLength(infos.length);
  const names = new Set(infos.map(({ name }) => name));
  for (const { parent } of infos) if (parent !== '') expect(names).toContain(parent);
  const used = new Set<string>();
  for (const folder of folders) {
    const record = JSON.parse(await readFile(join(root, 'containers', folder, 'layer.json'), 'utf8'));
    if (record.image !== undefined) used.add(record.image);
  }
  const images = (await readdir(join(root, 'images'))).filter((name) => name !== 'last-slot');
  const facts = await Promise.all(
    images.map(async (name) => JSON.parse(await readFile(join(root, 'images', name, 'facts.json'), 'utf8'))),
  );
  // Every image that is here is used, and every one that is used is here; unions besides.
  expect(new Set(images.filter((_, index) => facts[index]?.kind === 'layer'))).toEqual(used);
  for (const { name, kind } of infos) {
    if (kind !== 3) expect((await client.mounts(name)).length).toBe(1);
  }
  return names;
}

it('rows and folders agree after the driver was killed in the middle of any call', { timeout: 3_600_000 }, async () => {
  await using manager = await startManager();
  await using folder = await temporaryFolder();
  const written = await writeOciLayout(join(folder.path, 'layout'), quickImage());
  await convertImage(manager, written.reference, `oci:${join(folder.path, 'converted')}:1`);
  const layers = written.layers.map(({ digest }) => digest);
  const root = join(folder.path, 'root');
  const socket = join(folder.path, 'snap.sock');
  const model = new Client(1, layers);
  const random = new Random(2);
  for (let round = 0; round <= ROUNDS; round++) {
    await using host = await start(root, socket, manager.address);
    using client = new SnapshotsClient(socket);
    const names = await expectAgreement(root, client);
    for (const [name, known] of model.known) {
      if (known === 'unknown') {
        if (names.has(name)) model.known.set(name, 'there');
        else model.known.delete(name);
      } else {
        expect.soft(names.has(name), `round ${round}: ${name} should be ${known}`).toBe(known === 'there');
        if (known === 'gone') model.known.delete(name);
      }
    }
    if (round === ROUNDS) break;
    let alive = true;
    const killed = new Promise<void>((resolve) => setTimeout(resolve, random.int(0, 400))).then(async () => {
      await host.kill();
      alive = false;
    });
    const work = async () => {
      while (alive) await model.step(client);
    };
    await Promise.all([killed, work(), work(), work()]);
  }
});
