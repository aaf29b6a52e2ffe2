import { join } from 'node:path';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { gearJson, startDriver, type TestDriver } from '../../deploy/sandbox/gear.ts';
import type { NodeStatus } from '../../driver/status/node-status.ts';
import type { Cluster } from '../support/cluster.ts';
import { type Containerd, startContainerd } from '../support/containerd.ts';

/** containerd's own snapshotter, and ours. */
export const SIDES = ['overlayfs', 'gear'] as const;
export type Side = (typeof SIDES)[number];

export interface BenchNode extends AsyncDisposable {
  readonly driver: TestDriver;
  /** The driver's, for containerd. */
  readonly socket: string;
  readonly containerd: Containerd;
}

/** A node that has never seen anything: a driver, and a containerd that has it as a snapshotter beside its own. All below temporary folders. */
export async function startBenchNode(cluster: Cluster): Promise<BenchNode> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const socket = join(folder.path, 'snap.sock');
  const manager = { manager: cluster.manager.address, monitor: cluster.manager.monitor };
  const driver = stack.use(await startDriver({ ...manager, args: ['--containerd-socket', socket] }));
  const containerd = stack.use(await startContainerd({ snapshotter: socket }));
  const owned = stack.move();
  return { driver, socket, containerd, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

export async function pull(containerd: Containerd, side: Side, image: string): Promise<void> {
  if (side === 'gear') await containerd.rpull(image);
  else await containerd.ctr('images', 'pull', '--plain-http', '--snapshotter', side, image);
}

/** Fails where a figure would be that of an ordinary image. */
export async function expectLazy({ driver }: BenchNode, image: string): Promise<void> {
  const { containerd } = await gearJson<NodeStatus>(['status', '--root', driver.root]);
  const why = containerd?.ordinary.map(({ reason }) => reason).join(', ') ?? 'containerd is not served';
  if (containerd?.lazy === 0 || why !== '') throw new Error(`${image} is not lazy: ${why}`);
}
