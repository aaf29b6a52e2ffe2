import { join } from 'node:path';
import { execa } from 'execa';
import { defineCommand, EXIT, main } from '#core/cli/command.ts';
import { formatBytes, formatTable } from '#core/cli/table.ts';
import { GearError } from '#core/errors.ts';
import { temporaryFolder } from '../sandbox/cleanup.ts';
import { projectRoot, startManager } from '../sandbox/gear.ts';
import { startRegistry } from '../sandbox/registry.ts';
import { copyImage } from '../sandbox/skopeo.ts';
import { COMMAND, makeNodeImage } from './image.ts';
import { convert, type Start, startOnGear, startOnOverlay2 } from './steps.ts';

// What skopeo puts in front of a name; anything else is a name in a registry.
const TRANSPORT = /^(docker:\/\/|(docker-daemon|docker-archive|oci|oci-archive|dir):)/;

async function installPackages(signal: AbortSignal): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new GearError('permission-denied', 'the demo mounts and starts a dockerd of its own: run it as root');
  }
  await execa(join(projectRoot, 'deploy/install-packages'), [join(projectRoot, 'deploy/packages')], {
    stdio: ['ignore', 'inherit', 'inherit'],
    cancelSignal: signal,
  });
}

const row = (name: string, { milliseconds, fetchedBytes, fetchedObjects }: Start, objects: string): string[] => [
  name,
  `${(milliseconds / 1000).toFixed(2)} s`,
  formatBytes(fetchedBytes),
  fetchedObjects === undefined ? 'whole layers' : `${fetchedObjects} of ${objects}`,
];

const command = defineCommand({
  name: 'demo',
  summary: 'Start an image with and without Gear on this machine, and compare.',
  operands: '[IMAGE [-- COMMAND...]]',
  operandCount: [0, Number.MAX_SAFE_INTEGER],
  details: `
Starts a registry, a manager, a driver and a dockerd, each with folders, sockets and ports of its own, and removes all of it at the end;
a dockerd of the machine is not touched. Without IMAGE it makes one of what is here: Node, its libraries and this project's modules. IMAGE is
a name as docker pull takes it ("debian:12", "registry.example.org/team/app:1"), or anything that skopeo reads ("oci:FOLDER:TAG",
"docker-daemon:NAME:TAG").`,
  options: { json: { type: 'flag', help: 'Print JSON' } },
  async run({ json }, [image, ...given], signal) {
    const say = (text: string) => {
      signal.throwIfAborted();
      process.stderr.write(`${text}\n`);
    };
    await installPackages(signal);
    await using folder = await temporaryFolder();
    await using registry = await startRegistry();
    const name = `${registry.host}/demo:latest`;
    if (image === undefined) {
      say("Making an image of Node, its libraries and this project's modules");
      const made = await makeNodeImage(folder.path, signal);
      await copyImage(made.reference, `docker://${name}`, { signal });
    } else {
      say(`Copying ${image}`);
      const source = TRANSPORT.test(image) ? image : `docker://${image}`;
      await copyImage(source, `docker://${name}`, { verifySource: true, signal });
    }
    say('Starting a manager and converting the image');
    await using manager = await startManager({ insecureRegistries: [registry.host] });
    const converting = performance.now();
    const gearName = await convert(name, manager, signal);
    const converted = performance.now() - converting;
    const around = { registry, command: image === undefined ? COMMAND : given, signal };
    say('Starting it on a fresh node with overlay2');
    const [plain, plainAgain] = await startOnOverlay2(name, around);
    say('Starting it on a fresh node with Gear');
    const { starts, objects, bytes } = await startOnGear(gearName, manager, around);
    const [first, second] = starts;
    if (json) {
      const result = { conversionMilliseconds: converted, objects, bytes, overlay2: [plain, plainAgain], gear: starts };
      process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
      return EXIT.ok;
    }
    const table = formatTable(
      ['', 'FIRST LINE AFTER', 'FETCHED', 'OBJECTS'],
      [
        row('overlay2, first container', plain, ''),
        row('Gear, first container', first, String(objects)),
        row('overlay2, second container', plainAgain, ''),
        row('Gear, second container', second, String(objects)),
      ],
    );
    process.stdout.write(`
The image has ${objects} objects, ${formatBytes(bytes)}; converting it took ${(converted / 1000).toFixed(1)} s.
It says: ${first.firstLine}

${table}
`);
    return EXIT.ok;
  },
});

await main(command);
