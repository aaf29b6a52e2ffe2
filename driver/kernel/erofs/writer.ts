import type { FileHandle } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import type { Abortable } from '#core/abort.ts';
import { GearError } from '#core/errors.ts';
import { crc32c } from './crc32c.ts';
import { type DirectoryLayout, layoutDirectory } from './directory.ts';
import * as f from './format.ts';
import type { ErofsDirectory, ErofsInode } from './inode.ts';
import { MeasuringOutput, type Output, roundUp, WritingOutput } from './output.ts';
import { emitXattrs, xattrBodySize } from './xattrs.ts';

// How many inodes are emitted before other work of the process gets its turn.
const TURN = 2048;

/** log2 of the chunk that holds `size` bytes in one, or of the largest there is. */
function chunkBits(size: number): number {
  return Math.min(f.MAX_CHUNK_BITS, Math.max(f.BLOCK_BITS, Math.ceil(Math.log2(size))));
}

/** The image's parts in order, and what the first pass notes for the second: where each inode and its blocks stand. */
class Emitter {
  readonly #inodes: readonly ErofsInode[];
  readonly #layouts = new Map<ErofsDirectory, DirectoryLayout>();
  readonly #nids: Uint32Array;
  readonly #blocks: Uint32Array;
  readonly #needsBlock: Uint8Array;
  #totalBlocks = 0;

  constructor(inodes: readonly ErofsInode[]) {
    this.#inodes = inodes;
    this.#nids = new Uint32Array(inodes.length);
    this.#blocks = new Uint32Array(inodes.length);
    this.#needsBlock = new Uint8Array(inodes.length);
  }

  /** Emits the whole image. Run first over a MeasuringOutput. */
  async emit(out: Output, signal: AbortSignal | undefined): Promise<void> {
    out.zeros(f.SUPER_OFFSET);
    this.#emitSuperblock(out);
    for (let i = 0; i < this.#inodes.length; i++) {
      this.#emitInode(out, i, this.#inodes[i] as ErofsInode);
      if (out.full) await out.drain();
      if (i % TURN === TURN - 1) {
        await setImmediate();
        signal?.throwIfAborted();
      }
    }
    this.#alignTo(out, f.BLOCK_SIZE);
    for (let i = 0; i < this.#inodes.length; i++) {
      if (this.#needsBlock[i] === 0) continue;
      this.#note(this.#blocks, i, out.position / f.BLOCK_SIZE);
      const { content } = this.#inodes[i] as ErofsInode;
      if (content.kind === 'directory') await this.#emitDirectoryBlocks(out, content);
      else if (content.kind === 'symlink') out.text(content.target);
      this.#alignTo(out, f.BLOCK_SIZE);
      if (out.full) await out.drain();
    }
    this.#totalBlocks = out.position / f.BLOCK_SIZE;
  }

  #alignTo(out: Output, alignment: number): void {
    out.zeros(roundUp(out.position, alignment) - out.position);
  }

  // Both passes come here with the same value, or the image would be wrong.
  #note(table: Uint32Array, i: number, value: number): void {
    if (value > 0xffffffff) throw new GearError('resource-exhausted', 'the index is too large for an EROFS image');
    if (table[i] !== 0 && table[i] !== value)
      throw new GearError('internal', `EROFS writer: inode ${i} moved from ${table[i]} to ${value} between passes`);
    table[i] = value;
  }

  #emitSuperblock(out: Output): void {
    out.u32(f.SUPER_MAGIC);
    out.u32(0); // checksum: see writeErofs
    out.u32(f.FEATURE_COMPAT.superblockChecksum | f.FEATURE_COMPAT.mtime);
    out.u8(f.BLOCK_BITS);
    out.u8(0); // extension slots
    out.u16(this.#nids[0] as number);

    out.u64(this.#inodes.length);
    out.u64(0); // build time: extended inodes have their own

    out.u32(0); // its nanoseconds
    out.u32(this.#totalBlocks);
    out.u32(0); // first block of the metadata: node ids count from the image's start
    out.u32(0); // first block of shared xattrs: there are none

    out.zeros(f.UUID_SIZE); // see writeErofs

    out.text('gear'.padEnd(f.VOLUME_NAME_SIZE, '\0'));

    out.u32(f.FEATURE_INCOMPAT.chunkedFile);
    out.zeros(f.SUPER_OFFSET + f.SUPER_SIZE - out.position);
  }

  #layoutOf(directory: ErofsDirectory): DirectoryLayout {
    return this.#layouts.getOrInsertComputed(directory, () => layoutDirectory(directory.names));
  }

  #emitInode(out: Output, i: number, inode: ErofsInode): void {
    const { content } = inode;
    const xattrs = inode.xattrs();
    const body = xattrBodySize(xattrs);
    const head = f.INODE_SIZE + body;
    let layout: number = f.DATA_LAYOUT.plain;
    let size = 0;
    let union = 0;
    let tail = 0;
    // What must not cross a block's end: the tail alone, or (older kernels check that for a symlink) the inode with it.
    let together = 0;
    let blocks = 0;
    if (content.kind === 'hole') {
      layout = f.DATA_LAYOUT.chunks;
      size = content.size;
      union = chunkBits(size) - f.BLOCK_BITS;
    } else if (content.kind === 'device') {
      union = content.number;
    } else if (content.kind === 'symlink') {
      size = content.target.length;
      if (head + size <= f.BLOCK_SIZE) [tail, together] = [size, head + size];
      else blocks = 1;
    } else if (content.kind === 'directory') {
      const directory = this.#layoutOf(content);
      blocks = directory.starts.length - 1;
      tail = directory.tail;
      together = tail;
      size = blocks * f.BLOCK_SIZE + tail;
    }
    if (tail > 0) layout = f.DATA_LAYOUT.inline;
    if (blocks > 0) {
      this.#needsBlock[i] = 1;
      union = this.#blocks[i] as number;
    }
    this.#alignTo(out, f.SLOT_SIZE);
    const lead = content.kind === 'symlink' ? 0 : head;
    const offset = (out.position + lead) % f.BLOCK_SIZE;
    if (offset + together > f.BLOCK_SIZE) out.zeros(roundUp(f.BLOCK_SIZE - offset, f.SLOT_SIZE));
    this.#note(this.#nids, i, out.position / f.SLOT_SIZE);

    out.u16(layout);
    out.u16(body === 0 ? 0 : 1 + (body - f.XATTR_HEADER_SIZE) / 4);
    out.u16(inode.mode);
    out.u16(0);
    out.u64(size);

    out.u32(union);
    out.u32(i + 1); // the inode number that 32-bit programs see
    out.u32(inode.uid);
    out.u32(inode.gid);

    out.u64(inode.mtimeSeconds);
    out.u32(inode.mtimeNanoseconds);
    out.u32(inode.links);

    out.zeros(16);

    emitXattrs(out, xattrs);
    if (content.kind === 'hole') {
      const chunks = Math.ceil(size / 2 ** chunkBits(size));
      for (let chunk = 0; chunk < chunks; chunk++) out.u32(f.NULL_ADDRESS);
    } else if (content.kind === 'symlink' && tail > 0) out.text(content.target);
    else if (content.kind === 'directory' && tail > 0)
      this.#emitEntries(out, content, this.#layoutOf(content).starts.at(-1) as number, content.names.length);
  }

  async #emitDirectoryBlocks(out: Output, directory: ErofsDirectory): Promise<void> {
    const { starts } = this.#layoutOf(directory);
    for (let block = 0; block + 1 < starts.length; block++) {
      this.#emitEntries(out, directory, starts[block] as number, starts[block + 1] as number);
      this.#alignTo(out, f.BLOCK_SIZE);
      if (out.full) await out.drain();
    }
  }

  #emitEntries(out: Output, { names, targets }: ErofsDirectory, from: number, to: number): void {
    let nameOffset = (to - from) * f.DIRENT_SIZE;
    for (let i = from; i < to; i++) {
      const target = targets[i] as number;
      out.u64(this.#nids[target] as number);
      out.u16(nameOffset);
      out.u8(f.FILE_TYPE[(this.#inodes[target] as ErofsInode).mode >>> 12] as number);
      out.u8(0);
      nameOffset += (names[i] as string).length;
    }
    for (let i = from; i < to; i++) out.text(names[i] as string);
  }
}

/**
 * Writes an EROFS image to an empty file. The first inode is the root. The same inodes give the same bytes: the volume's UUID is
 * taken from the content (overlayfs tells its layers apart by it). Gives the image's size in bytes.
 */
export async function writeErofs(
  inodes: readonly ErofsInode[],
  file: FileHandle,
  { signal }: Abortable = {},
): Promise<number> {
  const emitter = new Emitter(inodes);
  await emitter.emit(new MeasuringOutput(), signal);
  const out = new WritingOutput(file, f.BLOCK_SIZE);
  await emitter.emit(out, signal);
  const { head, sha256 } = await out.finish();
  sha256.copy(head, f.SUPER_OFFSET + f.SUPER_UUID_OFFSET, 0, f.UUID_SIZE);
  // Over the rest of the first block, with a checksum field of 0 (erofs_superblock_csum_verify of fs/erofs/super.c).
  head.writeUInt32LE(crc32c(head.subarray(f.SUPER_OFFSET)), f.SUPER_OFFSET + f.SUPER_CHECKSUM_OFFSET);
  await file.write(head, 0, head.length, 0);
  return out.position;
}
