import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { BUSYBOX_LAYER } from '../images/quick.ts';
import { archive, directory, file, noise } from '../images/tar-bytes.ts';
import { startCluster } from '../support/cluster.ts';
import { type Bench, median, timed } from './result.ts';

const FILES = 5000;
const nameOf = (number: number): string => `small/${String(number).padStart(4, '0')}`;

/** 5,000 small files that are not on the node, opened and read one after the other. Each round has a fresh node. */
export const smallFilesBench: Bench = async ({ rounds }) => {
  const files = Array.from({ length: FILES }, (_, number) =>
    file(nameOf(number), noise(500 + (number % 4000), number)),
  );
  const layers = [{ tar: archive(directory('small/'), ...files) }, { tar: BUSYBOX_LAYER() }];
  await using cluster = await startCluster();
  const image = await cluster.publish('small:1', { layers, config: { Env: ['PATH=/bin'] } });
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    // Without a profile of the rounds before, which would bring the files ahead.
    await using node = await cluster.node({ driver: { args: ['--prefetch', 'off', '--audit', '0'] } });
    const id = await node.docker.detached(image.gear, ['sleep', '1000']);
    const merged = (await node.docker.inspect(id)).GraphDriver.Data?.['MergedDir'] ?? '';
    const milliseconds = await timed(async () => {
      for (let number = 0; number < FILES; number += 1) {
        await using handle = await open(join(merged, nameOf(number)));
        await handle.readFile();
      }
    });
    times.push(milliseconds / FILES);
  }
  const each = median(times);
  return [
    {
      name: 'small files: open and read of one that is not on the node',
      value: each,
      unit: 'ms',
      limit: { what: 'ms', most: 1, value: each },
    },
  ];
};
