import { Client, credentials, Metadata, type MethodDefinition } from '@grpc/grpc-js';
import { type Info, SnapshotsService } from '#proto/gen/containerd/services/snapshots/v1/snapshots.ts';
import type { Mount } from '#proto/gen/containerd/types/mount.ts';

type LabelsOf = Readonly<Record<string, string>>;

/** Talks to a proxy snapshotter as containerd does, or to containerd as its clients do. Every call throws what grpc-js throws: an error with `code` and `details`. */
export class SnapshotsClient implements Disposable {
  readonly #client: Client;
  readonly #metadata = new Metadata();
  readonly #snapshotter: { readonly snapshotter: string };

  /** `snapshotter`: by its name in containerd; a proxy snapshotter does not look at it. */
  constructor(socket: string, namespace = 'default', snapshotter = 'gear') {
    this.#snapshotter = { snapshotter };
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure());
    this.#metadata.set('containerd-namespace', namespace);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  async prepare(key: string, parent = '', labels: LabelsOf = {}): Promise<Mount[]> {
    const request = { ...this.#snapshotter, key, parent, labels: { ...labels } };
    return (await this.#call(SnapshotsService.prepare, request)).mounts;
  }

  async view(key: string, parent = ''): Promise<Mount[]> {
    return (await this.#call(SnapshotsService.view, { ...this.#snapshotter, key, parent, labels: {} })).mounts;
  }

  async mounts(key: string): Promise<Mount[]> {
    return (await this.#call(SnapshotsService.mounts, { ...this.#snapshotter, key })).mounts;
  }

  async commit(name: string, key: string, labels: LabelsOf = {}, parent = ''): Promise<void> {
    await this.#call(SnapshotsService.commit, { ...this.#snapshotter, name, key, labels: { ...labels }, parent });
  }

  async remove(key: string): Promise<void> {
    await this.#call(SnapshotsService.remove, { ...this.#snapshotter, key });
  }

  async stat(key: string): Promise<Info | undefined> {
    return (await this.#call(SnapshotsService.stat, { ...this.#snapshotter, key })).info;
  }

  async label(name: string, labels: LabelsOf, paths?: string[]): Promise<Info | undefined> {
    const info = {
      name,
      parent: '',
      kind: 0,
      createdAt: undefined,
      updatedAt: undefined,
      labels: { ...labels },
    } as const;
    return (await this.#call(SnapshotsService.update, { ...this.#snapshotter, info, updateMask: paths })).info;
  }

  async usage(key: string): Promise<{ size: bigint; inodes: bigint }> {
    return await this.#call(SnapshotsService.usage, { ...this.#snapshotter, key });
  }

  async cleanup(): Promise<void> {
    await this.#call(SnapshotsService.cleanup, { ...this.#snapshotter });
  }

  async list(...filters: string[]): Promise<Info[]> {
    const { path, requestSerialize, responseDeserialize } = SnapshotsService.list;
    const request = { ...this.#snapshotter, filters };
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      this.#metadata,
    );
    const found: Info[] = [];
    for await (const { info } of call as AsyncIterable<{ info: Info[] }>) found.push(...info);
    return found;
  }

  async #call<Q, A>(method: MethodDefinition<Q, A>, request: Q): Promise<A> {
    const { promise, resolve, reject } = Promise.withResolvers<A>();
    const { path, requestSerialize, responseDeserialize } = method;
    const limits = { deadline: Date.now() + 60_000 };
    this.#client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      this.#metadata,
      limits,
      (error, answer) => (error === null ? resolve(answer as A) : reject(error)),
    );
    return await promise;
  }
}
