import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { BUSYBOX_LAYER } from '../images/quick.ts';
import { archive, directory, file } from '../images/tar-bytes.ts';
import { startCluster } from '../support/cluster.ts';
import type { Bench } from './result.ts';

const IMAGES = 10;
const FILES = 10_000;

async function residentMegabytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return (Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024) / 1_000_000;
}

function tarOf(image: number): Buffer {
  const folders = Array.from({ length: 100 }, (_, at) => directory(`files/${at}/`));
  const files = Array.from({ length: FILES }, (_, at) =>
    file(`files/${at % 100}/${at}`, `file ${at} of image ${image}\n`),
  );
  return archive(directory('files/'), ...folders, ...files);
}

/** The driver and its object filesystem with ten mounted images of 10,000 files each, after a walk of all and a read of a tenth. */
export const memoryBench: Bench = async ({ say }) => {
  await using cluster = await startCluster();
  await using node = await cluster.node();
  for (let number = 0; number < IMAGES; number += 1) {
    say(`image ${number + 1} of ${IMAGES}`);
    const layers = [{ tar: BUSYBOX_LAYER() }, { tar: tarOf(number) }];
    const image = await cluster.publish(`many:${number}`, { layers, config: { Env: ['PATH=/bin'] } });
    const id = await node.docker.detached(image.gear, ['sleep', '100000']);
    const merged = (await node.docker.inspect(id)).GraphDriver.Data?.['MergedDir'] ?? '';
    await execa('sh', [
      '-c',
      'find "$1" -xdev -type f -size -1000000c >/dev/null; cat "$1"/files/1?/* >/dev/null',
      'sh',
      merged,
    ]);
  }
  // What nodes have most of the time: containers run, and no image is being taken in.
  await delay(5_000);
  const { objectFilesystem, images } = await node.status();
  if (images.filter(({ mounts }) => mounts > 0).length !== IMAGES) throw new Error(`not ${IMAGES} mounted images`);
  const pids = [node.driver.process.pid, objectFilesystem.supervisor, objectFilesystem.server];
  const parts = await Promise.all(pids.map(residentMegabytes));
  const total = parts.reduce((sum, part) => sum + part, 0);
  say(`driver, supervisor and server: ${parts.map((part) => part.toFixed(0)).join(' + ')} MB`);
  return [
    {
      name: `memory: driver and object filesystem with ${IMAGES} mounted images of ${FILES} files`,
      value: total,
      unit: 'MB',
      limit: { what: 'MB', most: 300, value: total },
    },
  ];
};
