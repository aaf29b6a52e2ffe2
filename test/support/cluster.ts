import type { DockerClient } from '../../deploy/sandbox/docker.ts';
import { type Dockerd, type DockerdOptions, startDockerd } from '../../deploy/sandbox/dockerd.ts';
import {
  type DriverOptions,
  gear,
  gearJson,
  type ManagerOptions,
  startDriver,
  startManager,
  type TestDriver,
  type TestManager,
} from '../../deploy/sandbox/gear.ts';
import type { ImageDescription, WrittenImage } from '../../deploy/sandbox/oci-layout.ts';
import { type Registry, startRegistry } from '../../deploy/sandbox/registry.ts';
import type { NodeStatus } from '../../driver/status/node-status.ts';
import { pushImage } from '../images/quick.ts';

/** A node with Gear: the driver, and a dockerd over it. */
export interface GearNode extends AsyncDisposable {
  readonly driver: TestDriver;
  readonly dockerd: Dockerd;
  readonly docker: DockerClient;
  /** `gear status --json` of this node. */
  status(): Promise<NodeStatus>;
  /** Objects and bytes that this node has fetched so far. */
  fetched(): Promise<{ objects: number; bytes: number }>;
}

export interface NodeOptions {
  readonly driver?: Omit<DriverOptions, 'manager' | 'monitor'>;
  readonly dockerd?: Omit<DockerdOptions, 'storageDriver'>;
}

/** A registry and a manager, and nodes as many as a test starts. */
export interface Cluster extends AsyncDisposable {
  readonly registry: Registry;
  readonly manager: TestManager;
  /** Starts a node; it ends with the cluster unless it is disposed before. */
  node(options?: NodeOptions): Promise<GearNode>;
  /** Pushes an image as NAME:TAG and converts it; gives the names that docker takes. */
  publish(name: string, image: ImageDescription): Promise<PublishedImage>;
}

export interface PublishedImage {
  /** "127.0.0.1:PORT/NAME:TAG", the original. */
  readonly plain: string;
  /** "127.0.0.1:PORT/NAME-gear:TAG", the Gear image. */
  readonly gear: string;
  readonly written: WrittenImage;
}

/** Starts a node with Gear. Dockerd goes before the driver when it is disposed. */
export async function startNode(
  manager: Pick<TestManager, 'address' | 'monitor'>,
  options: NodeOptions = {},
): Promise<GearNode> {
  await using stack = new AsyncDisposableStack();
  const driver = stack.use(
    await startDriver({ manager: manager.address, monitor: manager.monitor, ...options.driver }),
  );
  const dockerd = stack.use(await startDockerd({ storageDriver: driver.plugin, ...options.dockerd }));
  const owned = stack.move();
  const status = async () => await gearJson<NodeStatus>(['status', '--root', driver.root]);
  return {
    driver,
    dockerd,
    docker: dockerd.docker,
    status,
    fetched: async () => {
      const { fetchedObjects, fetchedBytes } = (await status()).objectFilesystem;
      return { objects: fetchedObjects, bytes: fetchedBytes };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Runs `gear convert SOURCE DESTINATION`; throws with its output when it fails. */
export async function convertImage(
  manager: Pick<TestManager, 'address'>,
  source: string,
  destination: string,
  options: readonly string[] = [],
): Promise<string> {
  const { exitCode, stdout, stderr } = await gear([
    ...['convert', '--manager', manager.address],
    ...options,
    ...[source, destination],
  ]);
  if (exitCode !== 0) throw new Error(`gear convert ${source} ${destination}: exit code ${exitCode}\n${stderr}`);
  return stdout;
}

/** Starts a registry and a manager that knows it. */
export async function startCluster(options: ManagerOptions = {}): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const manager = stack.use(await startManager({ insecureRegistries: [registry.host], ...options }));
  const owned = stack.move();
  return {
    registry,
    manager,
    node: async (nodeOptions) => {
      const node = await startNode(manager, nodeOptions);
      let gone = false;
      const dispose = async () => {
        if (gone) return;
        gone = true;
        await node[Symbol.asyncDispose]();
      };
      owned.defer(dispose);
      return { ...node, [Symbol.asyncDispose]: dispose };
    },
    publish: async (name, image) => {
      const [repository = name, tag = 'latest'] = name.split(':');
      const plain = `${registry.host}/${repository}:${tag}`;
      const converted = `${registry.host}/${repository}-gear:${tag}`;
      const written = await pushImage(image, `docker://${plain}`);
      await convertImage(manager, `docker://${plain}`, `docker://${converted}`);
      return { plain, gear: converted, written };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
