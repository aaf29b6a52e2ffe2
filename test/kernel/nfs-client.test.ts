import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { digestOf, digestToBytes, objectPath, parseDigest } from '#core/digest.ts';
import { decodeIndex } from '#core/index/decode.ts';
import { encodeDescriptor } from '#core/index/descriptor.ts';
import { summarize } from '#core/index/objects.ts';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { gear } from '../../deploy/sandbox/gear.ts';
import { type ImageDescription, writeOciLayout } from '../../deploy/sandbox/oci-layout.ts';
import { program } from '../../deploy/sandbox/packages.ts';
import { describeExport } from '../../driver/remote/export-facts.ts';
import { BUSYBOX_LAYER } from '../images/quick.ts';
import { archive, directory, file, noise } from '../images/tar-bytes.ts';
import { startLyingManager } from '../support/lying-manager.ts';
import { type NfsManager, startNfsManager } from '../support/nfs.ts';
import { skip } from '../support/skip.ts';
import { HOST_IN_VM, runInVm } from '../support/vm.ts';
import { vmKernel } from '../support/vm-kernel.ts';
import type { GuestFacts, GuestResults } from './nfs-guest.ts';

/** For the kernel, once for all runs. */
const DOWNLOAD = 300_000;
/** For all else, of which the machine may take most. A third of it is needed where nothing else is done. */
const TIMEOUT = 180_000;
const VM_TIMEOUT = 160_000;
/** A machine without qemu or package sources is no reason to pass: whoever runs there says so. */
const WITHOUT_VM = process.env['GEAR_TEST_NO_VM'] === '1';
const inVm = (address: string): string => address.replace('127.0.0.1', HOST_IN_VM);

const FILES = 24;

/** busybox, as itself and as one that becomes root, and files from a byte to a few hundred KiB: /data/NN. Small, as the machine is slow. */
function smallImage(): ImageDescription {
  const busybox = readFileSync(program('busybox'));
  const data = Array.from({ length: FILES }, (_, number) =>
    file(`data/${String(number).padStart(2, '0')}`, noise(1 + number ** 3 * 30, number)),
  );
  const setuid = file('bin/busybox-setuid', busybox, { mode: 0o4755 });
  return { layers: [{ tar: BUSYBOX_LAYER() }, { tar: archive(directory('data/'), setuid, ...data) }], config: {} };
}

/** Converts an image into the manager's store; gives what a node needs of it, and the digest of each file by its path. */
async function convert(
  nfs: NfsManager,
): Promise<Pick<GuestFacts, 'descriptor' | 'index'> & { files: Record<string, string> }> {
  await using folder = await temporaryFolder();
  const layout = await writeOciLayout(join(folder.path, 'layout'), smallImage());
  const { exitCode, stdout, stderr } = await gear([
    'convert',
    '--manager',
    nfs.manager.address,
    '--no-push',
    '--json',
    layout.reference,
  ]);
  if (exitCode !== 0) throw new Error(`gear convert: ${stderr}`);
  const { indexDigest } = JSON.parse(stdout.split('\n').at(-1) ?? '') as { indexDigest: string };
  const digest = parseDigest(indexDigest);
  const bytes = await readFile(join(nfs.manager.root, 'indexes', objectPath(digest)));
  const tree = decodeIndex(bytes);
  const { entries, objects, objectBytes } = summarize(tree);
  const descriptor = encodeDescriptor({
    ...{ version: 1, index: { digest, size: bytes.length }, source: { digest: digestOf(bytes) } },
    ...{ chunkSize: tree.chunkSize, entries, objects, bytes: objectBytes },
  });
  const files: Record<string, string> = {};
  const walk = (node: typeof tree.root, path: string) => {
    for (const [name, child] of node.children) {
      if (child.type === 'directory') walk(child, `${path}/${name}`);
      if (child.type === 'file')
        files[`${path}/${name}`] = child.size === 0 ? digestOf(Buffer.alloc(0)) : String(child.digest);
    }
  };
  walk(tree.root, '');
  return { descriptor: descriptor.toString(), index: bytes.toString('base64'), files };
}

describe("a kernel's NFS client", () => {
  const stack = new AsyncDisposableStack();
  let seconds = 0;
  let results: GuestResults = {};
  let files: Record<string, string> = {};

  beforeAll(async () => {
    if (WITHOUT_VM) return;
    program('qemu-system-x86_64');
    const kernel = await vmKernel();
    const began = performance.now();
    const versions = ['--nfs-versions', '4.0,4.1,4.2'];
    const nfs = stack.use(await startNfsManager({ everywhere: true, args: versions }));
    const other = stack.use(await startNfsManager({ everywhere: true, args: versions }));
    const { probe, path } = await describeExport(nfs.manager.address);
    const liar = stack.use(
      await startLyingManager({
        ...{ state: 3, reason: '', host: '', port: other.port, path, versions: ['4.0', '4.1'] },
        probe: { path: probe.path, size: BigInt(probe.size), digest: digestToBytes(probe.digest) },
      }),
    );
    const image = await convert(nfs);
    files = image.files;
    const signal = async (name: NodeJS.Signals) => void process.kill(await nfs.serverPid(), name);
    const facts: Omit<GuestFacts, 'calls'> = {
      manager: inVm(nfs.manager.address),
      liar: inVm(liar.address),
      descriptor: image.descriptor,
      index: image.index,
    };
    const output = await runInVm(
      {
        kernel,
        script: 'test/kernel/nfs-guest.ts',
        facts: { ...facts },
        calls: {
          'stop-server': () => signal('SIGSTOP'),
          'continue-server': () => signal('SIGCONT'),
          'kill-server': () => signal('SIGKILL'),
          results: (value) => {
            results = value as GuestResults;
          },
        },
      },
      VM_TIMEOUT,
    );
    seconds = (performance.now() - began) / 1000;
    if (results.error !== undefined) throw new Error(`${results.error}\n--- console ---\n${output.slice(-6000)}`);
  }, DOWNLOAD + TIMEOUT);
  afterAll(() => stack.disposeAsync());

  const needKernel = (context: TestContext) => {
    if (WITHOUT_VM) skip(context, 'GEAR_TEST_NO_VM=1: no virtual machine here');
  };

  it('needs less than three minutes for all of this', (context) => {
    needKernel(context);
    expect(seconds).toBeLessThan(TIMEOUT / 1000);
  });

  it('mounts the export with version 4.1, read-only and without setuid and devices', (context) => {
    needKernel(context);
    expect(results.trusted).toMatchObject({ state: 'trusted', reason: '' });
    expect(results.trusted?.options).toEqual(
      expect.arrayContaining(['ro', 'nosuid', 'nodev', 'vers=4.1', 'hard', 'nconnect=2']),
    );
  });

  it('reads an image through overlay with every digest right, and runs its programs', (context) => {
    needKernel(context);
    expect(results.read?.sums).toEqual(files);
    expect(results.read?.program).toBe('runs\n');
    expect(results.read?.setuid).toMatch(/unknown user nobody-of-this-name/);
    expect(results.written).toEqual({ mode: 0o4711, sum: files['/data/05'] });
  });

  it('gives an error at the deadline when the server falls silent, and never holds up the driver', (context) => {
    needKernel(context);
    const silent = results.silent;
    expect(silent?.failed).toMatch(/Input\/output error|Unknown error 512/);
    expect(silent?.seconds).toBeLessThan(15);
    expect(silent?.folder).toBeNull();
    expect(silent?.folderSeconds).toBeLessThan(8);
    expect(silent?.state).toBe('away');
    expect(silent?.ended).toBeGreaterThan(0);
  });

  it('reads right again when the server goes on, and across its death', (context) => {
    needKernel(context);
    for (const step of [results.back, results.killed]) expect(step).toMatchObject({ state: 'trusted', sums: files });
  });

  it('is taken over from an earlier driver where containers use it, and their reads are ended as ever', (context) => {
    needKernel(context);
    expect(results.again).toMatchObject({ kept: true, mounts: 0, state: 'trusted', sums: files });
    expect(results.again?.failed).toMatch(/Input\/output error|Unknown error 512/);
    expect(results.again?.seconds).toBeLessThan(15);
  });

  it('is not trusted with version 4.2, which reads zeros from this server', (context) => {
    needKernel(context);
    expect(results.zeros).toMatchObject({ state: 'refused', isMounted: false });
    expect(results.zeros?.reason).toMatch(/all zeros; the manager says/);
  });

  it('is not trusted with the store of another manager, and is unmounted at the end', (context) => {
    needKernel(context);
    expect(results.liar).toMatchObject({ state: 'refused', isMounted: false });
    expect(results.liar?.reason).toMatch(/the manager says/);
    expect(results.end).toEqual({ isMounted: false });
  });
});
