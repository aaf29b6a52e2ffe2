import { join } from 'node:path';
import { GearError } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';
import type { Access } from '#core/security/access.ts';
import type { ImageStore } from '../images/image-store.ts';
import { probe } from '../kernel/probe.ts';
import type { NodePaths } from '../paths.ts';
import { ManagerImages } from '../remote/manager-images.ts';
import { Snapshots } from '../snapshots/snapshots.ts';
import { Conversions } from './conversions.ts';
import { KnownLayers } from './known-layers.ts';
import { ShortLinks } from './links.ts';
import { SnapshotMetadata } from './metadata.ts';
import { type ContainerdStatus, containerdStatus } from './report.ts';
import { serveSnapshotter } from './server.ts';
import { Snapshotter } from './snapshotter.ts';

export interface ContainerdOptions {
  readonly paths: NodePaths;
  readonly images: ImageStore;
  /** "host:port" */
  readonly manager: string;
  readonly access?: Access;
  readonly log: Logger;
}

/** All that containerd's front end has open: the snapshots of `<root>/containers`, their rows in `<root>/containerd.sqlite`. */
export class ContainerdFrontEnd implements AsyncDisposable {
  readonly snapshots: Snapshots;
  readonly snapshotter: Snapshotter;
  readonly #conversions: Conversions;
  readonly #log: Logger;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    parts: { snapshots: Snapshots; snapshotter: Snapshotter; conversions: Conversions; log: Logger },
    resources: AsyncDisposableStack,
  ) {
    this.snapshots = parts.snapshots;
    this.snapshotter = parts.snapshotter;
    this.#conversions = parts.conversions;
    this.#log = parts.log;
    this.#resources = resources;
  }

  /** Needs no network. Throws invalid-argument for a root whose path cannot stand in mount options. */
  static async open({ paths, images, manager, access, log: parent }: ContainerdOptions): Promise<ContainerdFrontEnd> {
    // containerd's client cuts options at commas and lower directories at colons, whatever stands in front of them.
    if (/[,:\\]/.test(paths.root)) {
      throw new GearError('invalid-argument', `--root ${paths.root}: containerd cannot mount paths with , : or \\`);
    }
    const log = parent.child({ part: 'containerd' });
    await using stack = new AsyncDisposableStack();
    const snapshots = await Snapshots.open({ home: join(paths.root, 'containers'), images, log: parent });
    const metadata = stack.use(SnapshotMetadata.open(join(paths.root, 'containerd.sqlite')));
    const links = await ShortLinks.open(join(paths.root, 'l'), (id) => metadata.byId(id) !== undefined);
    const remote = stack.use(new ManagerImages(manager, access));
    const conversions = stack.use(new Conversions(remote, log));
    const layers = stack.use(new KnownLayers(remote, images, log, await whyNotLazy(paths.root)));
    const snapshotter = await Snapshotter.open({ metadata, snapshots, images, links, layers, conversions, log });
    return new ContainerdFrontEnd({ snapshots, snapshotter, conversions, log }, stack.move());
  }

  /** Answers containerd at a socket until what it gives is disposed. */
  async serve(socket: string): Promise<AsyncDisposable> {
    return await serveSnapshotter(socket, this.snapshotter, this.#log);
  }

  status(socket: string): ContainerdStatus {
    return containerdStatus(socket, this.snapshotter.all(), this.snapshots, this.#conversions.list());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** What keeps this kernel from mounting lazy layers. */
async function whyNotLazy(root: string): Promise<string | undefined> {
  const { works, detail } = await probe('data-layers', root);
  return works ? undefined : `this kernel mounts no lazy layers (data-only layers of overlayfs, Linux 6.5): ${detail}`;
}
