import type { Logger } from '#core/log.ts';
import type { Driver, DriverOptions } from './driver.ts';
import { DriverError, isNotSupported } from './errors.ts';

/** What a driver is made with. */
export interface DriverContext extends DriverOptions {
  readonly log: Logger;
}

/**
 * Makes a driver for a home (which it creates), as Init asks. Throws DriverError: not-supported, prerequisites, incompatible-filesystem,
 * invalid-option.
 */
export type DriverFactory = (context: DriverContext) => Promise<Driver>;

/** What the home needs; what is left out is empty. */
export type CreateDriverOptions = Pick<DriverContext, 'home' | 'log'> & Partial<DriverOptions>;

/** Drivers by name. There is no global one: whoever starts the process says what it has. */
export class DriverRegistry {
  readonly #factories = new Map<string, DriverFactory>();

  /** Throws invalid-option for a name that is taken. */
  register(name: string, factory: DriverFactory): this {
    if (this.#factories.has(name)) {
      throw new DriverError('invalid-option', `two drivers want the name ${JSON.stringify(name)}`);
    }
    this.#factories.set(name, factory);
    return this;
  }

  /** The names, in the order in which they were registered. */
  names(): string[] {
    return [...this.#factories.keys()];
  }

  /** Throws unknown-driver. */
  factory(name: string): DriverFactory {
    const factory = this.#factories.get(name);
    if (factory !== undefined) return factory;
    const known = this.names().join(', ') || 'none';
    throw new DriverError('unknown-driver', `no driver is called ${JSON.stringify(name)}; there are: ${known}`);
  }

  /** Makes the driver `name`. */
  async createDriver(name: string, options: CreateDriverOptions): Promise<Driver> {
    return await this.factory(name)({ options: [], uidMaps: [], gidMaps: [], ...options });
  }

  /**
   * Makes the first of `names` (all, in order, where none are given) that works on this machine. Throws not-supported with the reason of each where
   * none does, and at once any error that is not about support.
   */
  async createFirst(options: CreateDriverOptions, names: readonly string[] = this.names()): Promise<Driver> {
    const reasons: string[] = [];
    for (const name of names) {
      try {
        return await this.createDriver(name, options);
      } catch (error) {
        if (!isNotSupported(error)) throw error;
        options.log.info({ err: error, driver: name }, 'driver does not work here');
        reasons.push(`${name}: ${error.message}`);
      }
    }
    throw new DriverError('not-supported', `no driver works with the home ${options.home}: ${reasons.join('; ')}`);
  }
}
