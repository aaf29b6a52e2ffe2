import { readdirSync } from 'node:fs';
import type { Digest } from '#core/digest.ts';
import { isErrno } from '#core/errors.ts';
import { ObjectTable } from '#core/index/object-table.ts';
import type { CacheLayout } from '../cache/layout.ts';
import { isSmall } from '../cache/object.ts';
import type { Prefetcher } from '../prefetch/prefetcher.ts';
import { Recording, type RecordingLimits } from '../prefetch/recording.ts';
import { ImageEntry } from './image-entry.ts';
import type { PrefetchStats, TouchReport } from './interface.ts';

/** Touches of one image in one report. */
const MAX_REPORTED = 2_000;

interface Watched {
  readonly recording: Recording;
  /** Milliseconds from the first mount until bytes that a reader waited for had come, the last time during the recording. */
  lastDemand: number;
  /** Chunks that were touched and that the profile did not name. */
  missed: number;
}

/** Watches what images touch first, and has that prefetched which earlier ones touched. */
export class Learning {
  readonly #layout: CacheLayout;
  readonly #prefetcher: Prefetcher;
  readonly #limits: () => RecordingLimits;
  readonly #isOn: () => boolean;
  readonly #watched = new Map<ImageEntry, Watched>();

  constructor(options: {
    readonly layout: CacheLayout;
    readonly prefetcher: Prefetcher;
    readonly limits: () => RecordingLimits;
    readonly isOn: () => boolean;
  }) {
    this.#layout = options.layout;
    this.#prefetcher = options.prefetcher;
    this.#limits = options.limits;
    this.#isOn = options.isOn;
  }

  /** The image is being mounted, perhaps not for the first time. */
  mounted(entry: ImageEntry): void {
    if (this.#watched.has(entry)) return;
    const complete = this.#hasNothing(entry.image);
    this.#watched.set(entry, { recording: new Recording(this.#limits(), complete), lastDemand: 0, missed: 0 });
    this.prefetch(entry.image);
  }

  prefetch(image: Digest): void {
    if (this.#isOn()) this.#prefetcher.request(image);
  }

  /** The same for an image that is being made: `table` is the file of its object table now. Throws the file's error, or corrupt. */
  prefetchEarly(image: Digest, table: string): void {
    if (this.#isOn()) this.#prefetcher.request(image, new ImageEntry(image, ObjectTable.open(table)));
  }

  /** The whole object is needed, by somebody who reads it past us. */
  opened(entry: ImageEntry, row: number): void {
    const watched = this.#watched.get(entry);
    if (watched === undefined) return;
    if (isSmall(entry.object(row))) this.#touch(entry, watched, row, 0);
    // It is not seen which chunks of it are read, so this run must not count against any.
    else watched.recording.complete = false;
  }

  /** Whether it matters which parts of a whole object are read: where a prefetch is watched in full. */
  watchesReads(entry: ImageEntry): boolean {
    return this.#prefetcher.of(entry.image)?.pin === false && this.#watched.get(entry)?.recording.done === false;
  }

  /** These bytes of the object are needed. */
  read(entry: ImageEntry, row: number, offset: number, size: number): void {
    const watched = this.#watched.get(entry);
    if (watched === undefined || watched.recording.done) return;
    const { chunkSize } = entry.table;
    const end = Math.min(offset + size, entry.table.size(row));
    for (let chunk = Math.floor(offset / chunkSize); chunk * chunkSize < end; chunk++) {
      this.#touch(entry, watched, row, chunk);
    }
  }

  /** A reader had to wait for bytes from afar. */
  fetched(entry: ImageEntry): void {
    const watched = this.#watched.get(entry);
    if (watched !== undefined && !watched.recording.done) watched.lastDemand = watched.recording.age();
  }

  /** What was recorded since the last time. */
  take(): TouchReport[] {
    const reports: TouchReport[] = [];
    for (const [entry, { recording }] of this.#watched) {
      if (this.#prefetcher.of(entry.image)?.pin === true && (this.#prefetcher.of(entry.image)?.chunks ?? 0) > 0) {
        recording.complete = false;
      }
      const part = recording.take(MAX_REPORTED);
      if (part === undefined) continue;
      const { first, complete, rows, chunks, milliseconds } = part;
      const digests = rows.map((row) => entry.table.digest(row));
      reports.push({
        image: entry.image,
        chunkSize: entry.table.chunkSize,
        first,
        complete,
        digests,
        chunks,
        milliseconds,
      });
    }
    return reports;
  }

  stats(entry: ImageEntry): PrefetchStats {
    const watched = this.#watched.get(entry);
    const prefetched = this.#prefetcher.of(entry.image);
    return {
      recordedTouches: watched?.recording.touches ?? 0,
      recording: watched !== undefined && !watched.recording.done,
      lastDemandMilliseconds: Math.round(watched?.lastDemand ?? 0),
      prefetching: this.#prefetcher.running.includes(entry.image),
      plannedChunks: prefetched?.planned,
      prefetchedChunks: prefetched?.chunks ?? 0,
      prefetchedBytes: prefetched?.bytes ?? 0,
      prefetchedWireBytes: prefetched?.wireBytes ?? 0,
      prefetchMilliseconds: prefetched?.milliseconds,
      problem: prefetched?.problem,
      // Of what the image has pinned, touches are not seen.
      unusedChunks: prefetched === undefined || prefetched.pin ? undefined : prefetched.chunks - prefetched.used,
      missedChunks: prefetched?.planned === undefined ? undefined : (watched?.missed ?? 0),
    };
  }

  /** Forgets images that are gone. */
  tidy(entries: readonly ImageEntry[]): void {
    const there = new Set(entries);
    for (const entry of this.#watched.keys()) if (!there.has(entry)) this.#watched.delete(entry);
    this.#prefetcher.tidy();
  }

  #touch(entry: ImageEntry, watched: Watched, row: number, chunk: number): void {
    if (!watched.recording.touch(row, chunk)) return;
    const prefetched = this.#prefetcher.of(entry.image);
    if (prefetched?.planned !== undefined && !prefetched.touched(row, chunk)) watched.missed++;
  }

  #hasNothing(image: Digest): boolean {
    try {
      return readdirSync(this.#layout.privateFolder(image)).length === 0;
    } catch (error) {
      return isErrno(error, 'ENOENT');
    }
  }
}
