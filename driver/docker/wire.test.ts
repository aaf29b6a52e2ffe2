import { describe, expect, it } from 'vitest';
import { isGearError } from '#core/errors.ts';
import { filesystemOfMagic } from './backing-filesystem.ts';
import { DriverError, isDriverError, isNotSupported } from './errors.ts';
import { checkId, checkParent } from './ids.ts';
import { Repeats } from './repeats.ts';
import { changeFromWire, changeToWire, parseBody, parseInit, parseRequest, parseStorageOpt } from './wire.ts';

const invalid = (error: unknown) => isGearError(error, 'invalid-argument');

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error('it did not throw');
}

describe('ids', () => {
  const hex = 'a'.repeat(64);
  it.each([hex, `${hex}-init`, 'empty', 'Base', 'Snap', 'DeepLayerRead-0', 'ü', '...', '-rf', 'x'.repeat(255)])(
    'takes %s',
    (id) => {
      expect(checkId(id)).toBe(id);
      expect(checkParent(id)).toBe(id);
    },
  );
  it.each(['', '.', '..', 'a/b', '/etc', '../x', 'a\0b', 'x'.repeat(256), '\ud800', undefined, 7, null, {}])(
    'refuses %j',
    (id) => {
      expect(
        isDriverError(
          thrownBy(() => checkId(id)),
          'invalid-id',
        ),
      ).toBe(true);
    },
  );
  it('takes no parent', () => {
    expect([checkParent(''), checkParent(undefined), checkParent(null)]).toEqual(['', '', '']);
    expect(invalid(thrownBy(() => checkParent('..')))).toBe(true);
  });
});

describe('requests', () => {
  it('takes empty bodies and those that Go writes', () => {
    for (const text of ['', ' \n', 'null\n', '{}']) expect(parseBody(Buffer.from(text))).toEqual({});
    expect(parseBody(undefined)).toEqual({});
    const init = parseBody(Buffer.from('{"Home":"/h","Opts":null,"UIDMaps":null,"GIDMaps":null}\n'));
    expect(parseInit(init)).toEqual({ home: '/h', options: [], uidMaps: [], gidMaps: [] });
    const mapped = { Home: '/h', Opts: ['a=b'], UIDMaps: [{ container_id: 0, host_id: 100_000, size: 65_536 }] };
    expect(parseInit(mapped).uidMaps).toEqual([{ containerId: 0, hostId: 100_000, size: 65_536 }]);
    expect(parseRequest({ ID: 'x' })).toEqual({ id: 'x', parent: '', mountLabel: '' });
    expect(parseStorageOpt({ StorageOpt: { size: '1G' } })).toEqual({ size: '1G' });
  });

  it.each(['{', '[]', '7', '"x"'])('refuses the body %s', (text) => {
    expect(invalid(thrownBy(() => parseBody(Buffer.from(text))))).toBe(true);
  });

  it('refuses fields of wrong types', () => {
    for (const work of [
      () => parseRequest({ ID: 7 }),
      () => parseRequest({ Parent: {} }),
      () => parseStorageOpt({ StorageOpt: [] }),
      () => parseStorageOpt({ StorageOpt: { size: 1 } }),
      () => parseInit({ Opts: 'x' }),
      () => parseInit({ Opts: [1] }),
      () => parseInit({ UIDMaps: [{ size: 1 }] }),
      () => parseInit({ GIDMaps: [null] }),
    ]) {
      expect(invalid(thrownBy(work))).toBe(true);
    }
  });
});

describe('changes', () => {
  it('travel as text', () => {
    const path = Buffer.from('/ü\n').toString('latin1');
    expect(changeToWire({ path, kind: 2 })).toEqual({ Path: '/ü\n', Kind: 2 });
    expect(changeFromWire({ Path: '/ü\n', Kind: 2 })).toEqual({ path, kind: 2 });
    expect(changeToWire({ path: '/\xff', kind: 0 }).Path).toBe('/\ufffd');
    expect(() => changeFromWire({ Path: '/x', Kind: 3 })).toThrow(/unknown kind/);
  });
});

describe('errors', () => {
  it('say whether another driver may be tried', () => {
    expect(isNotSupported(new DriverError('prerequisites', 'x'))).toBe(true);
    expect(isNotSupported(new DriverError('incompatible-filesystem', 'x'))).toBe(true);
    expect(isNotSupported(new DriverError('unknown-layer', 'x'))).toBe(false);
    expect(isNotSupported(new Error('x'))).toBe(false);
    expect(isGearError(new DriverError('layer-exists', 'x'), 'already-exists')).toBe(true);
  });
});

describe('backing filesystems', () => {
  it('are known by their magic, signed or not', () => {
    expect(filesystemOfMagic(0xef53)).toEqual({ name: 'extfs', magic: 0xef53, overlayUpper: true });
    expect(filesystemOfMagic(0x9123683e)).toEqual(filesystemOfMagic(0x9123683e | 0));
    expect(filesystemOfMagic(0x9123683e).name).toBe('btrfs');
    expect(filesystemOfMagic(0x6969)).toMatchObject({ name: 'nfs', overlayUpper: false });
    expect(filesystemOfMagic(1)).toMatchObject({ name: 'unknown', overlayUpper: true });
  });
});

describe('repeats', () => {
  it('answers a repeated Put once, and not for ever', () => {
    let now = 0;
    const repeats = new Repeats(() => now);
    repeats.putUnheard('a');
    repeats.putUnheard('a');
    expect([repeats.isPutDone('b'), repeats.isPutDone('a'), repeats.isPutDone('a'), repeats.isPutDone('a')]).toEqual([
      false,
      true,
      true,
      false,
    ]);
    repeats.putUnheard('a');
    now = 120_000;
    expect(repeats.isPutDone('a')).toBe(false);
  });

  it('refuses the rest of an interrupted ApplyDiff until the layer is removed', () => {
    const repeats = new Repeats();
    repeats.applyBroken('a');
    expect(
      isDriverError(
        thrownBy(() => repeats.checkApply('a')),
        'interrupted',
      ),
    ).toBe(true);
    repeats.checkApply('b');
    repeats.forget('a');
    repeats.checkApply('a');
    repeats.applyBroken('a');
    repeats.forgetAll();
    repeats.checkApply('a');
  });
});
