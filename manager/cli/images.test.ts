import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { until } from '#core/abort.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { addImage, randomContents } from '../catalog/testing.ts';
import { startTestRegistry } from '../registry/client-testing.ts';
import { startTestManager } from '../testing.ts';

const LIMITS = { timeout: 10_000 };

describe('gear images', () => {
  it('shows what is waiting, being converted or failed before what is ready', async () => {
    await using registry = await startTestRegistry();
    for (const tag of ['1', '2', '3', '4']) registry.put('app', tag, tag);
    const host = registry.host;
    const never = Promise.withResolvers<never>();
    const watch = { watches: [{ host, prefix: '' }], interval: 60_000, keep: 0, upstream: undefined, pullTimeout: 0 };
    const access = { insecureRegistries: [host] };
    await using test = await startTestManager(
      { watch, access, maxConversions: 2 },
      async ({ source }, { onProgress, signal }) => {
        if (source.endsWith(':1')) throw new Error('something is wrong with it');
        const counts = { layer: 1, layers: 3, entries: 0, newObjects: 7, newBytes: 0 };
        onProgress({ phase: 'layers', doneBytes: 500, totalBytes: 1000, ...counts });
        signal.addEventListener('abort', () => never.reject(signal.reason));
        return await never.promise;
      },
    );
    await addImage(test.manager.store, `docker://${host}/ready:1`, randomContents(1));
    const list = async (pageToken = '') =>
      await test.connection.unary(ImagesService.listWatched, { pageSize: 3, pageToken }, LIMITS);
    await until('the conversions', async () => {
      const first = await list();
      const { tags } = await list(first.nextPageToken);
      return (
        tags.length === 1 && [...first.tags, ...tags].filter(({ progress }) => progress !== undefined).length === 2
      );
    });
    const program = fileURLToPath(new URL('./images.ts', import.meta.url));
    const args = [program, '--manager', test.manager.addresses.grpc];
    const table = (await execa(process.execPath, args)).stdout;
    expect(table).toMatch(/app:1 .*failed: something is wrong with it; tried again at \d\d:\d\d:\d\d/);
    expect(table).toMatch(/app:2 .*converting: .*50 %.*layer 1 of 3/);
    expect(table).toMatch(/app:4 .*waiting/);
    expect(table).toMatch(/ready:1 .*ready$/);
    const json = JSON.parse((await execa(process.execPath, [...args, '--json'])).stdout);
    expect(json).toHaveLength(5);
    expect(json[0]).toMatchObject({ state: 'failed', attempts: 1, error: 'something is wrong with it' });
    expect(json[1]).toMatchObject({ state: 'converting', progress: { phase: 'layers', doneBytes: 500 } });
    expect(json[4]).toMatchObject({ source: `docker://${host}/ready:1`, state: 'ready' });
  });
});
