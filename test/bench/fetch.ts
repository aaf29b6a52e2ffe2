import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { objectPath } from '#core/digest.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { startNfsManager } from '../support/nfs.ts';
import { randomObject, type TestObject } from '../support/objectfs.ts';
import { type Bench, median, type Result } from './result.ts';

const LARGE = 24;
const LARGE_BYTES = 8 * 1024 * 1024;
const SMALL = 4_000;
const SMALL_BYTES = 12 * 1024;
const READER = fileURLToPath(new URL('./fetch-reader.ts', import.meta.url));

interface Figures {
  readonly bytes: number;
  readonly seconds: number;
  /** CPU seconds of the reader, and of the server. */
  readonly cpu: number;
  readonly server: number;
}

/** CPU seconds that a process has used so far. */
async function cpuOf(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'latin1')).split(') ').at(-1)?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Bulk fetch of large and of small objects: from the local disk, by ganesha through libnfs and through our own client, by gRPC. */
export const fetchBench: Bench = async ({ rounds, say }) => {
  await using nfs = await startNfsManager();
  await using folder = await temporaryFolder();
  const manager = nfs.manager.process.pid;
  const ganesha = await nfs.serverPid();
  const large = Array.from({ length: LARGE }, () => randomObject(LARGE_BYTES));
  const small = Array.from({ length: SMALL }, (_, i) => randomObject(1 + ((i * 7919) % (2 * SMALL_BYTES))));
  await nfs.store(...large, ...small);
  const objects = join(nfs.manager.root, 'objects');

  const reader = async (list: string, kind: string, where: string, server?: number): Promise<Figures> => {
    const before = server === undefined ? 0 : await cpuOf(server);
    const args = ['--disable-warning=ExperimentalWarning', READER, kind, where, list];
    const { stdout } = await execa(process.execPath, args);
    const used = server === undefined ? 0 : (await cpuOf(server)) - before;
    return { ...(JSON.parse(stdout) as Omit<Figures, 'server'>), server: used };
  };
  // One process for each object, as libnfs's tools are.
  const libnfs = async (all: readonly TestObject[]): Promise<Figures> => {
    const urls = all.map(({ digest }) => `nfs://127.0.0.1/objects/${objectPath(digest)}?version=4&nfsport=${nfs.port}`);
    const before = await cpuOf(ganesha);
    const began = performance.now();
    const script = 'TIMEFORMAT="%U %S"; time for url in "$@"; do nfs-cat "$url" >/dev/null || exit 1; done';
    const { stderr } = await execa('bash', ['-c', script, 'libnfs', ...urls]);
    const seconds = (performance.now() - began) / 1000;
    const cpu = stderr
      .trim()
      .split(/\s+/)
      .map(Number)
      .reduce((sum, part) => sum + part, 0);
    return {
      bytes: all.reduce((sum, { bytes }) => sum + bytes.length, 0),
      seconds,
      cpu,
      server: (await cpuOf(ganesha)) - before,
    };
  };

  const results: Result[] = [];
  for (const [name, all] of [['large', large] as const, ['small', small] as const]) {
    const list = join(folder.path, name);
    await writeFile(list, all.map(({ digest, bytes }) => `${digest} ${bytes.length}`).join('\n'));
    const ways: Readonly<Record<string, () => Promise<Figures>>> = {
      'local disk': () => reader(list, 'disk', objects),
      ...(name === 'large' ? { 'NFS by libnfs': () => libnfs(all) } : {}),
      'NFS by our client': () => reader(list, 'nfs', nfs.manager.address, ganesha),
      gRPC: () => reader(list, 'grpc', nfs.manager.address, manager),
    };
    const rate: Record<string, number> = {};
    for (const [way, run] of Object.entries(ways)) {
      const figures: Figures[] = [];
      for (let round = 0; round < rounds; round++) figures.push(await run());
      const per = (value: (one: Figures) => number) => median(figures.map(value));
      rate[way] = per(({ bytes, seconds }) => bytes / seconds / 1e6);
      const [cpu, server] = [per((one) => (one.cpu * 1e9) / one.bytes), per((one) => (one.server * 1e9) / one.bytes)];
      say(
        `${name}, ${way}: ${rate[way].toFixed(0)} MB/s; CPU ${cpu.toFixed(2)} ns/byte here, ${server.toFixed(2)} at the server`,
      );
      results.push({ name: `fetch: CPU of the reader, ${name} objects, ${way}`, value: cpu, unit: 'ns/byte' });
      if (way !== 'local disk')
        results.push({ name: `fetch: CPU of the server, ${name} objects, ${way}`, value: server, unit: 'ns/byte' });
    }
    const best = rate['NFS by libnfs'] ?? rate['NFS by our client'] ?? 0;
    const grpc = rate['gRPC'] ?? 0;
    const local = { name: 'local disk', value: rate['local disk'] ?? 0 };
    results.push({
      name: `fetch: ${name} objects by our NFS client`,
      value: rate['NFS by our client'] ?? 0,
      unit: 'MB/s',
      beside: local,
    });
    results.push({
      name: `fetch: ${name} objects by gRPC`,
      value: grpc,
      unit: 'MB/s',
      beside: { name: 'NFS', value: best },
      limit: { what: 'times slower than NFS', most: 4, value: best / grpc },
    });
  }
  return results;
};
