import { GearError } from '#core/errors.ts';
import type { HeartbeatRequest, Node } from '#proto/gen/gear/v1/monitor.ts';

const MAX_NODES = 10_000;
const MAX_IMAGES = 1_000;
const MAX_NAME = 253;

/** What nodes last said of themselves. Kept in memory: it is true for seconds only. */
export class Nodes {
  /** Oldest first. */
  readonly #nodes = new Map<string, Node>();
  /** Of those that are known, where each last reported from. */
  readonly #addresses = new Map<string, string>();
  readonly #lifetime: number;

  /** `lifetime`: milliseconds after which a silent node is forgotten. */
  constructor(lifetime: number) {
    this.#lifetime = lifetime;
  }

  /**
   * Takes a heartbeat that came from `address` (without the port). Throws invalid-argument for one that says too much, and resource-exhausted when there are too
   * many nodes.
   */
  report(heartbeat: HeartbeatRequest, now = Date.now(), address = ''): void {
    const { node, images } = heartbeat;
    if (node === '' || node.length > MAX_NAME) {
      throw new GearError('invalid-argument', `a node's name has 1 to ${MAX_NAME} characters`);
    }
    if (images.length > MAX_IMAGES) {
      throw new GearError('invalid-argument', `node ${node}: ${images.length} images; at most ${MAX_IMAGES} are taken`);
    }
    this.#forget(now);
    if (!this.#nodes.delete(node) && this.#nodes.size >= MAX_NODES) {
      throw new GearError('resource-exhausted', `node ${node}: there are ${MAX_NODES} nodes already`);
    }
    this.#nodes.set(node, { last: heartbeat, seenAt: BigInt(now) });
    this.#addresses.set(node, address);
  }

  /** The node that reports from an address; undefined where it is none, or several. */
  at(address: string): string | undefined {
    const names = [...this.#addresses].filter(([, from]) => from === address);
    return names.length === 1 ? names[0]?.[0] : undefined;
  }

  /** By name. */
  list(now = Date.now()): Node[] {
    this.#forget(now);
    return [...this.#nodes].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, node]) => node);
  }

  get size(): number {
    return this.#nodes.size;
  }

  #forget(now: number): void {
    for (const [name, { seenAt }] of this.#nodes) {
      if (Number(seenAt) >= now - this.#lifetime) return;
      this.#nodes.delete(name);
      this.#addresses.delete(name);
    }
  }
}
