import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { type Command, EXIT, main, type Option } from '#core/cli/command.ts';
import { type Digest, isDigest, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { connect } from '#core/grpc/client.ts';
import { ACCESS_OPTIONS, type Access, accessOf } from '#core/security/access.ts';
import { ImagesService } from '#proto/gen/gear/v1/images.ts';
import { MonitorService } from '#proto/gen/gear/v1/monitor.ts';
import { imageFromWire } from '../converter/image-wire.ts';
import { parsePlatform } from '../registry/platform.ts';
import { MONITOR_OPTION, monitorOf, profileFromJson, profileJson, profileText, readProfile } from './profile-view.ts';
import { ANSWER_TIMEOUT, withManager } from './reach.ts';
import { MANAGER_ADDRESS } from './registry-options.ts';

const ACTIONS = ['show', 'export', 'import', 'reset'] as const;
type Action = (typeof ACTIONS)[number];

const OPTIONS = {
  manager: { type: 'string', value: 'HOST:PORT', default: MANAGER_ADDRESS, help: 'The manager' },
  monitor: MONITOR_OPTION,
  ...ACCESS_OPTIONS,
  platform: { type: 'string', value: 'OS/ARCH[/VARIANT]', help: 'Which of the images of this name' },
  file: { type: 'string', value: 'FILE', help: 'What is imported (default: standard input)' },
  json: { type: 'flag', help: 'Print JSON' },
} as const satisfies Readonly<Record<string, Option>>;

function readAction(word: string): Action {
  const action = ACTIONS.find((known) => known === word);
  if (action !== undefined) return action;
  throw new GearError('invalid-argument', `${JSON.stringify(word)} is none of ${ACTIONS.join(', ')}`);
}

/** The index of the image that is meant; a digest that the manager has no image for is taken for what nodes call an image. */
async function indexOf(
  manager: string,
  access: Access,
  reference: string,
  platform: string | undefined,
  signal: AbortSignal,
): Promise<Digest> {
  const wanted = platform === undefined ? undefined : parsePlatform(platform);
  return await withManager(manager, access, async (connection) => {
    const request = { reference, platform: wanted };
    try {
      const answer = await connection.unary(ImagesService.resolve, request, { signal, timeout: ANSWER_TIMEOUT });
      return imageFromWire(answer).indexDigest;
    } catch (error) {
      const hex = reference.replace(/^sha256:/, '');
      if (isDigest(hex)) return parseDigest(hex);
      throw error;
    }
  });
}

async function change(
  monitor: string,
  access: Access,
  work: (connection: ReturnType<typeof connect>) => Promise<unknown>,
): Promise<void> {
  using connection = connect(monitor, '--monitor', access);
  await work(connection);
}

const command: Command<typeof OPTIONS> = {
  name: 'profile',
  summary: "Shows, exports, imports or forgets an image's start-up profile.",
  operands: 'show|export|import|reset IMAGE',
  operandCount: [2, 2],
  options: OPTIONS,
  details: `
A start-up profile says what containers of an image touch first. It is learned from nodes by itself, and a new version of an image begins with that of the
one before. "reset" has it learned anew; "import" takes what "export" printed, as far as the store has its objects.`,
  async run(values, [word = '', reference = ''], signal) {
    const action = readAction(word);
    const access = accessOf(values);
    const image = await indexOf(values.manager, access, reference, values.platform, signal);
    const limits = { signal, timeout: ANSWER_TIMEOUT };
    if (action === 'reset') {
      await change(monitorOf(values), access, (to) =>
        to.unary(MonitorService.resetProfile, { image: ociDigest(image) }, limits),
      );
      return EXIT.ok;
    }
    if (action === 'import') {
      const json = values.file === undefined ? await text(process.stdin) : await readFile(values.file, 'utf8');
      const profile = profileFromJson(json, image);
      await change(monitorOf(values), access, (to) => to.unary(MonitorService.putProfile, profile, limits));
      return EXIT.ok;
    }
    const profile = await readProfile(monitorOf(values), access, image, signal);
    if (profile === undefined) {
      throw new GearError('not-found', `${reference}: no start-up profile yet; it is learned from its first start`);
    }
    const shown = profileJson(profile);
    const asJson = action === 'export' || values.json;
    process.stdout.write(`${asJson ? JSON.stringify(shown, undefined, 1) : profileText(shown)}\n`);
    return EXIT.ok;
  },
};

if (import.meta.main) await main(command);
