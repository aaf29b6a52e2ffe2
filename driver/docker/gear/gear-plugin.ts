import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '#core/atomic-file.ts';
import { messageOf, orUndefined } from '#core/errors.ts';
import { KeyedLock } from '#core/keyed-lock.ts';
import { HOME_MARK } from '../../images/users.ts';
import type { DriverOptions } from '../driver.ts';
import { GearDriver, type GearDriverContext } from './gear-driver.ts';

/**
 * The homes that engines have given. A restarted driver gets no new Init from an engine that kept running, so the last one is written down, and all of them
 * are opened again, because their layers are what says which images are in use.
 */
export class GearPlugin {
  readonly #file: string;
  readonly #context: GearDriverContext;
  readonly #drivers = new Map<string, GearDriver>();
  readonly #lock = new KeyedLock<'init'>();
  #current: GearDriver | undefined;

  private constructor(file: string, context: GearDriverContext) {
    this.#file = file;
    this.#context = context;
  }

  /** `folder` keeps the list of homes. A home that cannot be opened is logged and left out: others must still work. */
  static async open(folder: string, context: GearDriverContext): Promise<GearPlugin> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const plugin = new GearPlugin(join(folder, 'docker-homes.json'), context);
    for (const home of await plugin.#read()) {
      const there = await orUndefined(readFile(join(home, HOME_MARK)), 'ENOENT', 'ENOTDIR');
      if (there === undefined) {
        context.log.info({ home }, 'home is gone');
        continue;
      }
      try {
        plugin.#current = await plugin.#open({ home, options: [], uidMaps: [], gidMaps: [] });
      } catch (err) {
        context.log.error({ err, home }, 'home cannot be opened');
      }
    }
    return plugin;
  }

  /** The driver of the last Init, of this process or of one before it. */
  get current(): GearDriver | undefined {
    return this.#current;
  }

  drivers(): GearDriver[] {
    return [...this.#drivers.values()];
  }

  /** Init: opens the home, or takes up again the one that is open. Throws what GearDriver.open throws. */
  async init(options: DriverOptions): Promise<GearDriver> {
    using _lock = await this.#lock.acquire('init');
    const driver = await this.#open(options);
    // The engine counts from nothing when it starts anew; a mount that is still there is a container's that lived on.
    driver.snapshots.forgetCounts();
    this.#current = driver;
    const homes = (await this.#read()).filter((home) => home !== options.home);
    await writeAtomically(this.#file, JSON.stringify([...homes, options.home]));
    return driver;
  }

  async #open(options: DriverOptions): Promise<GearDriver> {
    const driver = await GearDriver.open(options, this.#context);
    const known = this.#drivers.get(driver.snapshots.home);
    if (known !== undefined) return known;
    this.#drivers.set(driver.snapshots.home, driver);
    return driver;
  }

  async #read(): Promise<string[]> {
    const text = await orUndefined(readFile(this.#file, 'utf8'), 'ENOENT');
    if (text === undefined) return [];
    try {
      const homes: unknown = JSON.parse(text);
      return Array.isArray(homes) ? homes.filter((home) => typeof home === 'string') : [];
    } catch (error) {
      this.#context.log.error(
        { file: this.#file, reason: messageOf(error) },
        'list of homes is damaged; starting a new one',
      );
      return [];
    }
  }
}
