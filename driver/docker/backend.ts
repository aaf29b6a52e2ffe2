import { isAbsolute } from 'node:path';
import { KeyedLock } from '#core/keyed-lock.ts';
import type { Logger } from '#core/log.ts';
import type { Driver, DriverOptions } from './driver.ts';
import { DriverError } from './errors.ts';
import type { DriverFactory } from './registry.ts';

/** What a plugin server serves: one driver at a time, that of the last Init. */
export interface PluginBackend {
  /** Init: may come more than once, with the same home or others. */
  init(options: DriverOptions): Promise<Driver>;
  /** The driver of the last Init; undefined before there was one. */
  current(): Driver | undefined;
}

/** Serves a driver that is there already, whatever home Init names. */
export function backendOf(driver: Driver): PluginBackend {
  return { init: async () => driver, current: () => driver };
}

/**
 * Makes a driver at Init, one for each home; the same Init again gives the same driver. An Init with other options for a home makes that home's driver
 * anew. A failed Init leaves the driver of the one before.
 */
export class FactoryBackend implements PluginBackend {
  readonly #factory: DriverFactory;
  readonly #log: Logger;
  readonly #lock = new KeyedLock<'init'>();
  readonly #drivers = new Map<string, { key: string; driver: Driver }>();
  #current: Driver | undefined;

  constructor(factory: DriverFactory, log: Logger) {
    this.#factory = factory;
    this.#log = log;
  }

  async init(options: DriverOptions): Promise<Driver> {
    const { home } = options;
    if (!isAbsolute(home) || home.includes('\0')) {
      throw new DriverError('invalid-option', `Init's Home has to be an absolute path, not ${JSON.stringify(home)}`);
    }
    using _lock = await this.#lock.acquire('init');
    const key = JSON.stringify(options);
    let known = this.#drivers.get(home);
    if (known?.key !== key) {
      known = { key, driver: await this.#factory({ ...options, log: this.#log.child({ home }) }) };
      this.#drivers.set(home, known);
    }
    this.#current = known.driver;
    return known.driver;
  }

  current(): Driver | undefined {
    return this.#current;
  }
}
