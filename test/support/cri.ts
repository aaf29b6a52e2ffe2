import { Client, credentials, type MethodDefinition } from '@grpc/grpc-js';
import {
  type ExecSyncResponse,
  type FilesystemUsage,
  type Image,
  ImageServiceService,
  NamespaceMode,
  type PodSandboxConfig,
  RuntimeServiceService,
} from '#proto/gen/runtime/v1/cri.ts';

/** The container runtime interface at a socket, as far as tests need it. Pods use the host's network. */
export class CriClient implements Disposable {
  readonly #client: Client;

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure());
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  /** Waits until the runtime is up. */
  async version(): Promise<string> {
    return (await this.#call(RuntimeServiceService.version, { version: '' })).runtimeVersion;
  }

  async pull(image: string): Promise<string> {
    return (await this.#call(ImageServiceService.pullImage, { image: { image } })).imageRef;
  }

  async imageStatus(image: string): Promise<Image | undefined> {
    return (await this.#call(ImageServiceService.imageStatus, { image: { image } })).image;
  }

  async removeImage(image: string): Promise<void> {
    await this.#call(ImageServiceService.removeImage, { image: { image } });
  }

  async imageFilesystems(): Promise<FilesystemUsage[]> {
    return (await this.#call(ImageServiceService.imageFsInfo, {})).imageFilesystems;
  }

  async runPod(name: string): Promise<Pod> {
    const config: PodSandboxConfig = {
      metadata: { name, uid: name, namespace: 'default', attempt: 0 },
      hostname: '',
      logDirectory: '',
      linux: {
        cgroupParent: '',
        securityContext: { namespaceOptions: { network: NamespaceMode.NODE } },
      },
    };
    const { podSandboxId } = await this.#call(RuntimeServiceService.runPodSandbox, { config });
    return { id: podSandboxId, config };
  }

  async removePod({ id }: Pod): Promise<void> {
    await this.#call(RuntimeServiceService.stopPodSandbox, { podSandboxId: id });
    await this.#call(RuntimeServiceService.removePodSandbox, { podSandboxId: id });
  }

  /** Creates and starts a container; gives its id. */
  async start(pod: Pod, image: string, name: string, command: string[]): Promise<string> {
    const { containerId } = await this.#call(RuntimeServiceService.createContainer, {
      podSandboxId: pod.id,
      sandboxConfig: pod.config,
      config: {
        metadata: { name, attempt: 0 },
        image: { image },
        command,
        args: [],
        logPath: '',
        linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
      },
    });
    await this.#call(RuntimeServiceService.startContainer, { containerId });
    return containerId;
  }

  async exec(containerId: string, ...cmd: string[]): Promise<ExecSyncResponse> {
    return await this.#call(RuntimeServiceService.execSync, { containerId, cmd, timeout: 30n });
  }

  async removeContainer(containerId: string): Promise<void> {
    await this.#call(RuntimeServiceService.stopContainer, { containerId, timeout: 0n });
    await this.#call(RuntimeServiceService.removeContainer, { containerId });
  }

  async #call<Q, A>(method: MethodDefinition<Q, A>, request: Q): Promise<A> {
    const { promise, resolve, reject } = Promise.withResolvers<A>();
    const { path, requestSerialize, responseDeserialize } = method;
    const limits = { deadline: Date.now() + 60_000 };
    this.#client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, limits, (error, answer) =>
      error === null ? resolve(answer as A) : reject(error),
    );
    return await promise;
  }
}

export interface Pod {
  readonly id: string;
  readonly config: PodSandboxConfig;
}
