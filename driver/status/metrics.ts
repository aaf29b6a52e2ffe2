import type { ImageStatus, NodeStatus } from './node-status.ts';

type Sample = readonly [labels: string, value: number];
type Family = readonly [name: string, type: 'counter' | 'gauge', help: string, samples: readonly Sample[]];

function perImage(images: readonly ImageStatus[], value: (image: ImageStatus) => number | undefined): Sample[] {
  return images.flatMap((image) => {
    const found = value(image);
    return found === undefined ? [] : [[`{image="${image.image.slice(0, 12)}"}`, found] as const];
  });
}

/** A node's status in Prometheus' text format (version 0.0.4). Counters begin with the object filesystem's server. */
export function metricsText({ objectFilesystem: stats, images }: NodeStatus): string {
  const families: Family[] = [
    [
      'gear_node_bytes_total',
      'counter',
      'Bytes of objects that came to this node, by why: a reader waited, a start-up profile named them, an image was filled',
      [
        ['{reason="demand"}', stats.demandBytes],
        ['{reason="profile"}', stats.prefetchedBytes],
        ['{reason="fill"}', stats.fetchedBytes - stats.demandBytes],
      ],
    ],
    [
      'gear_node_profile_wire_bytes_total',
      'counter',
      'What the bytes that profiles named were on the wire',
      [['', stats.prefetchedWireBytes]],
    ],
    [
      'gear_node_joined_chunks_total',
      'counter',
      'Chunks that a reader waited for while a profile brought them',
      [['', stats.joinedChunks]],
    ],
    ['gear_node_errors_total', 'counter', 'Reads that failed', [['', stats.errors]]],
    ['gear_node_cache_bytes', 'gauge', 'Bytes in the public cache', [['', stats.cacheBytes ?? 0]]],
    ['gear_node_manager_away', 'gauge', 'Whether the manager seems to be away', [['', stats.managerAway ? 1 : 0]]],
    [
      'gear_image_complete',
      'gauge',
      'Whether all of the image is here',
      perImage(images, ({ state }) => (state === 'complete' ? 1 : 0)),
    ],
    [
      'gear_image_prefetched_bytes_total',
      'counter',
      "Bytes that the image's profile named",
      perImage(images, ({ startUp }) => startUp?.prefetchedBytes),
    ],
    [
      'gear_image_unused_chunks',
      'gauge',
      'Chunks that were prefetched and never touched, where that was watched',
      perImage(images, ({ startUp }) => startUp?.unusedChunks),
    ],
    [
      'gear_image_missed_chunks',
      'gauge',
      'Chunks that were touched and not in the profile',
      perImage(images, ({ startUp }) => startUp?.missedChunks),
    ],
    [
      'gear_image_last_demand_milliseconds',
      'gauge',
      'From the first mount until a reader last waited for bytes from afar, during the start',
      perImage(images, ({ startUp }) => startUp?.lastDemandMilliseconds),
    ],
  ];
  const lines = families.flatMap(([name, type, help, samples]) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...samples.map(([labels, value]) => `${name}${labels} ${value}`),
  ]);
  return `${lines.join('\n')}\n`;
}
