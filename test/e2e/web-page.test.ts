import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sleep, until } from '#core/abort.ts';
import { connect } from '#core/grpc/client.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { ContentStoreService, type WriteRequest } from '#proto/gen/gear/v1/objects.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { startManager, type TestManager } from '../../deploy/sandbox/gear.ts';
import { type Registry, startRegistry } from '../../deploy/sandbox/registry.ts';
import { startTestManager } from '../../manager/testing.ts';
import { pushImage, quickImage } from '../images/quick.ts';
import { type Chromium, startChromium, type Tab } from '../support/chromium.ts';
import { type GearNode, startNode } from '../support/cluster.ts';

const HOSTILE = '"><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">';
const text = (selector: string) => `document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`;
const rows = (section: string) =>
  `[...document.querySelectorAll('#${section} tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent.trim().replace(/\\s+/g, ' ')))`;

/** An object that is uploaded a little at a time until the signal aborts. */
async function* endlessUpload(signal: AbortSignal): AsyncGenerator<WriteRequest, void, void> {
  yield { part: { $case: 'header', value: { digest: Buffer.alloc(32, 1), size: 10_000_000_000n } } };
  while (!signal.aborted) {
    yield { part: { $case: 'data', value: Buffer.alloc(50_000) } };
    await sleep(50, { signal }).catch(() => {});
  }
}

describe("the manager's page in a browser", () => {
  const stack = new AsyncDisposableStack();
  let registry: Registry;
  let manager: TestManager;
  let node: GearNode;
  let chromium: Chromium;
  let tab: Tab;

  beforeAll(async () => {
    registry = stack.use(await startRegistry());
    const args = ['--watch', `docker://${registry.host}`, '--watch-interval', '1'];
    manager = stack.use(await startManager({ insecureRegistries: [registry.host], args }));
    const [started, browser] = await Promise.all([
      startNode(manager, { driver: { args: ['--node', 'node-of-the-test'] } }),
      startChromium(),
      ...['one', 'two'].map((name) => pushImage(quickImage(name), `docker://${registry.host}/${name}:1`)),
      pushImage({ layers: [{ tar: Buffer.from('this is no tar') }] }, `docker://${registry.host}/broken:1`),
    ]);
    node = stack.use(started);
    chromium = stack.use(browser);
    tab = await chromium.tab();
    await tab.open(`http://${manager.http}/`);
  });
  afterAll(() => stack.disposeAsync());

  const shows = async (what: string, expression: string, timeout = 20_000) =>
    await until(what, async () => await tab.value<boolean>(expression), { timeout });
  const failed = `${rows('images')}.find(([name]) => name.endsWith('/broken:1'))`;

  it('shows images as they come, without being loaded again', async () => {
    await tab.value('window.stays = true');
    await shows('both images', `document.querySelectorAll('#images .badge.ready').length === 2`);
    // It is tried again now and then, so the row is looked at as a whole.
    const row = await until('the failed one', async () => {
      const found = await tab.value<string[] | null>(failed);
      return found?.[1]?.startsWith('failed') === true && found;
    });
    expect(row[2]).toMatch(/^layer 1 of 1 .* the tar ends in a header/);
    await shows(
      'how many there are',
      `/^Images\\s+2\\s+0 converting, 0 waiting, 1 failed$/.test(${text('#tile-images')})`,
    );
    // Two images of almost the same files.
    expect(await tab.value(text('#tile-savings'))).toMatch(
      /^Saved\s+5\d %\s+[\d.]+ MB of files are [\d.]+ MB in \d+ objects$/,
    );
    expect(await tab.value('window.stays')).toBe(true);
  });

  it('shows what nodes have and how they came by it', async () => {
    for (const name of ['one', 'two']) {
      const image = `${registry.host}/${name}-gear:1`;
      await node.docker.once(image, ['sh', '-c', 'cat /etc/marker /data/small/000* >/dev/null']);
    }
    const isServed = '([who, what]) => /^node-of-the-test 127.0.0.1:/.test(who) && what === "objects"';
    await shows('what the node was sent', `${rows('activity')}.some(${isServed})`);
    // A driver that comes back reports at once; what was counted before, the object filesystem keeps.
    await node.driver.stop();
    await node.driver.start();
    await shows('the hits', `/\\d % hits/.test(${text('#nodes')})`);
    const { images, objectFilesystem: counted } = await node.status();
    const sum = (count: 'fromPublic' | 'fromRemote') => images.reduce((total, image) => total + image[count], 0);
    expect(sum('fromPublic')).toBeGreaterThan(5);
    expect(sum('fromRemote')).toBeGreaterThan(5);
    const [found = []] = await tab.value<string[][]>(rows('nodes'));
    expect(found[0]).toMatch(/^node-of-the-test /);
    expect(found[1]).toMatch(/^2/);
    expect(found[2]).toContain(`${sum('fromPublic')} public, ${sum('fromRemote')} remote`);
    expect(counted.demandBytes).toBeGreaterThan(0);
    expect(found[3]).toMatch(/^[\d.]+ [KM]?B ahead, [1-9][\d.]* [KM]?B waited for, 0 B filled$/);
    expect(await tab.value<string[][]>(rows('images'))).toContainEqual(
      expect.arrayContaining([`${registry.host}/one:1`, expect.stringMatching(/^1/)]),
    );
  });

  it('shows a transfer while it lasts, and names of strangers as they are', async () => {
    using connection = connect(manager.address);
    using monitor = connect(manager.monitor);
    const [image] = (await connection.unary(ImagesService.list, { pageSize: 1, pageToken: '' })).images;
    await connection.unary(ImagesService.put, { ...image!, source: `docker://x/${HOSTILE}`, destination: '' });
    const [known] = (await monitor.unary(MonitorService.listNodes, {})).nodes;
    await monitor.unary(MonitorService.heartbeat, { ...known!.last!, node: HOSTILE });
    const stop = new AbortController();
    const uploading = connection.clientStream(ContentStoreService.write, endlessUpload(stop.signal), {
      timeout: 30_000,
      signal: stop.signal,
    });
    uploading.catch(() => {});
    const moved = `${rows('activity')}.find(([, what]) => what === 'upload of objects')?.[2] ?? ''`;
    await shows('the transfer', `/received$/.test(${moved})`);
    const first = await tab.value<string>(moved);
    await shows('its progress', `${moved} !== ${JSON.stringify(first)}`);
    expect(await tab.value(text('#tile-rate'))).toMatch(/^Moving now\s+[1-9][\d.]* [KM]B\/s\s+in \d transfer/);
    await shows('the names', `document.querySelectorAll('#nodes tbody tr').length === 2`);
    const names = await tab.value<string[]>(
      `[...document.querySelectorAll('td .name')].map(({ textContent }) => textContent)`,
    );
    expect(names).toEqual(expect.arrayContaining([HOSTILE, `x/${HOSTILE}`]));
    expect(await tab.value(`document.querySelectorAll('main script, main img, body > script').length`)).toBe(0);
    const folder = process.env['GEAR_TEST_LOGS'];
    if (folder !== undefined) await takePictures(folder);
    stop.abort();
    await shows('its end', `${rows('activity')}.find(([, what]) => what === 'upload of objects')?.[3] === 'ended'`);
    expect(await tab.value('[window.stays, window.hacked]')).toEqual([true, null]);
  });

  it('asks only the manager, and nothing is blocked or fails', async () => {
    expect(tab.complaints).toEqual([]);
    expect(tab.requests.length).toBeGreaterThan(4);
    expect(tab.requests.filter((url) => !url.startsWith(`http://${manager.http}/`))).toEqual([]);
    // The policy holds, and what it blocks would have been heard of.
    await tab.value(
      `{ const own = document.createElement('script'); own.textContent = 'window.hacked = 3'; document.body.append(own); }`,
    );
    expect(await tab.value('window.hacked ?? 0')).toBe(0);
    await until('the complaint', () => tab.complaints.some((said) => /Content Security Policy/.test(said)));
  });

  it('fits a phone, and is dark where that is wanted', async () => {
    await tab.send('Emulation.setDeviceMetricsOverride', {
      width: 360,
      height: 740,
      deviceScaleFactor: 2,
      mobile: true,
    });
    expect(await tab.value('document.documentElement.scrollWidth')).toBe(360);
    const ground = 'getComputedStyle(document.body).backgroundColor';
    const light = await tab.value(ground);
    await tab.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: 'dark' }] });
    expect(await tab.value(ground)).not.toBe(light);
  });

  it('works without script', async () => {
    const other = await chromium.tab();
    await other.send('Emulation.setScriptExecutionDisabled', { value: true });
    await other.open(`http://${manager.http}/ui/`);
    const { root } = (await other.send('DOM.getDocument', { depth: 0 })) as { root: { nodeId: number } };
    const { outerHTML } = (await other.send('DOM.getOuterHTML', root)) as { outerHTML: string };
    expect(outerHTML).toContain(`${registry.host}/one:1`);
    expect(outerHTML).toMatch(/id="status"[^>]*>as of \d\d:/);
    expect(other.complaints).toEqual([]);
  });

  it('lets a browser in by a token as the password, and stays alive with it', async () => {
    await using folder = await temporaryFolder();
    const tokenFile = join(folder.path, 'tokens');
    const token = '0123456789abcdef0123456789abcdef';
    await writeFile(tokenFile, `somebody ${token}\n`, { mode: 0o600 });
    await using guarded = await startTestManager({ security: { tls: undefined, tokenFile, httpAuth: 'all' } });
    const { http } = guarded.manager.addresses;
    const other = await chromium.tab();
    await other.open(`http://any:${token}@${http}/ui/`);
    const status = async () => await other.value<string>(text('#status'));
    await until('the page to be live', async () => (await status()).startsWith('live'));
    expect(other.complaints).toEqual([]);
    await guarded.manager[Symbol.asyncDispose]();
    await until('the page to say that nobody answers', async () => /^no answer since \d\d:/.test(await status()));
  });

  async function takePictures(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    for (const [name, width, scheme] of [
      ['wide', 1280, 'light'],
      ['dark', 1280, 'dark'],
      ['phone', 390, 'light'],
    ] as const) {
      const size = { width, height: 900, deviceScaleFactor: 1, mobile: width < 500 };
      await tab.send('Emulation.setDeviceMetricsOverride', size);
      await tab.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
      const { data } = await tab.send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true });
      await writeFile(join(folder, `web-page-${name}.png`), Buffer.from(String(data), 'base64'));
    }
    await tab.send('Emulation.setEmulatedMedia', { features: [] });
    await tab.send('Emulation.clearDeviceMetricsOverride');
  }
});
