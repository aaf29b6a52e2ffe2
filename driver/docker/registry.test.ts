import { describe, expect, it } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { FactoryBackend } from './backend.ts';
import type { Driver } from './driver.ts';
import { DriverError, isDriverError } from './errors.ts';
import { type DriverContext, DriverRegistry } from './registry.ts';

const log = silentLogger();
const named = (name: string) => async (context: DriverContext) => ({ name, context }) as unknown as Driver;
const unsupported = async (): Promise<Driver> => {
  throw new DriverError('prerequisites', 'the kernel has no such thing');
};

describe('the registry of drivers', () => {
  it('makes drivers by name', async () => {
    const registry = new DriverRegistry().register('a', named('a')).register('b', named('b'));
    expect(registry.names()).toEqual(['a', 'b']);
    const driver = await registry.createDriver('b', { home: '/h', log });
    expect(driver).toEqual({ name: 'b', context: { home: '/h', log, options: [], uidMaps: [], gidMaps: [] } });
    expect(() => registry.register('a', named('a'))).toThrow(/two drivers want the name "a"/);
    const unknown = registry.createDriver('c', { home: '/h', log });
    await expect(unknown).rejects.toSatisfy((error) => isDriverError(error, 'unknown-driver'));
    await expect(unknown).rejects.toThrow(/there are: a, b/);
  });

  it('takes the first that works', async () => {
    const registry = new DriverRegistry().register('no', unsupported).register('yes', named('yes'));
    expect((await registry.createFirst({ home: '/h', log })).name).toBe('yes');
    const none = registry.createFirst({ home: '/h', log }, ['no']);
    await expect(none).rejects.toSatisfy((error) => isDriverError(error, 'not-supported'));
    await expect(none).rejects.toThrow(/no: the kernel has no such thing/);
    const broken = async (): Promise<Driver> => {
      throw new Error('broken');
    };
    await expect(
      registry.register('broken', broken).createFirst({ home: '/h', log }, ['broken', 'yes']),
    ).rejects.toThrow('broken');
  });
});

describe('a backend of a factory', () => {
  it('makes one driver for each home and keeps the last', async () => {
    const made: string[] = [];
    const backend = new FactoryBackend(async (context) => {
      made.push(context.home);
      if (context.home === '/bad') throw new DriverError('incompatible-filesystem', 'no');
      return { name: context.home } as Driver;
    }, log);
    const init = (home: string, options: string[] = []) => backend.init({ home, options, uidMaps: [], gidMaps: [] });
    expect(backend.current()).toBeUndefined();
    const first = await init('/a');
    expect(await init('/a')).toBe(first);
    expect((await init('/b')).name).toBe('/b');
    expect(backend.current()?.name).toBe('/b');
    expect(await init('/a')).toBe(first);
    await expect(init('/bad')).rejects.toThrow('no');
    expect(backend.current()).toBe(first);
    expect(await init('/a', ['x=y'])).not.toBe(first);
    expect(made).toEqual(['/a', '/b', '/bad', '/a']);
    await expect(init('relative')).rejects.toThrow(/absolute path/);
  });
});
