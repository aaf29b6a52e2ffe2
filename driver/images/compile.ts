import type { Digest } from '#core/digest.ts';
import { type ErrorCode, GearError } from '#core/errors.ts';
import { Compiler } from './compiler.ts';

/**
 * What the kernel is given as the view's first lower layer: an EROFS image; a plain directory where the kernel has no EROFS; or, where its overlayfs has no
 * data-only layers, the whole tree with its contents, which the object filesystem shows.
 */
export type IndexFormat = 'erofs' | 'directory' | 'tree';

export interface CompileRequest {
  /** Holds the encoded index under the name "index"; the results come beside it. */
  readonly folder: string;
  /** The digest that the index must have. */
  readonly image: Digest;
  /** The image's number on this node; see object-table.ts. */
  readonly slot: number;
  readonly format: IndexFormat;
  /**
   * Of a layer: the roots of the layers below, the topmost first. Directories that the layer's tar only implied then look as they do there, which is how
   * containerd unpacks them (mkparent of its archive/tar.go); without this they look as the index says.
   */
  readonly lowers?: readonly string[];
}

export interface ImageSummary {
  readonly entries: number;
  readonly files: number;
  readonly fileBytes: number;
  readonly objects: number;
  readonly objectBytes: number;
  /** Of a layer: see Compiled. */
  readonly implied?: number;
}

/** What an index turned out to be. `warnings` say what this kernel cannot show of it. */
export interface Compiled {
  readonly kind: 'image' | 'layer';
  readonly summary: ImageSummary;
  /** Directories other than the root that the layer's tar only implied. */
  readonly implied: number;
  readonly warnings: readonly string[];
}

/** Said before the reply: the object table is written, of an index that has the digest. */
export type TableWritten = 'table';

export type CompileReply =
  | ({ readonly ok: true } & Compiled)
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string };

const compiler = new Compiler();

/** Makes the first compilation of this process quicker. */
export function expectIndexes(): void {
  compiler.warmUp();
}

/**
 * Compiles an index in another thread. `onTable` is called as soon as the object table lies in the folder, which is long before all of it is done. Throws
 * corrupt or invalid-argument when the index is not what it should be.
 */
export async function compileIndex(request: CompileRequest, onTable?: () => void): Promise<Compiled> {
  const reply = await compiler.compile(request, onTable);
  if (!reply.ok) throw new GearError(reply.code, reply.message);
  return reply;
}
