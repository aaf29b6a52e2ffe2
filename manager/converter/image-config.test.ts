import { describe, expect, it } from 'vitest';
import { digestOf, ociDigest } from '#core/digest.ts';
import type { ImageManifest } from '../registry/manifest.ts';
import { parseConfig, startsWithGearLayer, withLayers } from './image-config.ts';
import { spliceJson } from './json-splice.ts';

const LAYER = digestOf(Buffer.from('layer'));
const OTHER = digestOf(Buffer.from('other'));
/** What JSON.parse and JSON.stringify together would change: big and odd numbers, escapes, key order, spaces, unknown fields. */
const CONFIG = `{
  "2": "b", "1": "a", "architecture":"amd64", "big": 12345678901234567890, "float": 1.0, "exp": 1E2,
  "escaped": "\\u003cA\\u003e \\/ \\"rootfs\\":", "config": {"Env":["A=b=c","rootfs={}"],"Healthcheck":{"Interval":30000000000},
  "rootfs": {"diff_ids": ["inner"]}}, "rootfs" : { "type":"layers", "diff_ids" : ["${ociDigest(LAYER)}"] , "unknown": {"x":[1]} },
  "history":[{"created_by":"x ] } \\" y"}], "os":"linux", "created": "2024-01-02T03:04:05.678901234Z"  , "last": null }
`;
const manifest = (bytes: Buffer): ImageManifest => ({
  kind: 'image',
  digest: OTHER,
  config: { mediaType: '', digest: digestOf(bytes), size: bytes.length },
  layers: [{ mediaType: '', digest: LAYER, size: 1 }],
});
const parse = (text: string) => parseConfig(Buffer.from(text), manifest(Buffer.from(text)), 'docker://host/app:1');

describe('withLayers', () => {
  it('leaves every other byte as it is', () => {
    const changed = withLayers(Buffer.from(CONFIG), [OTHER], [{ comment: 'gear.v1' }]).toString();
    expect(changed).toBe(
      CONFIG.replace(`["${ociDigest(LAYER)}"]`, `["${ociDigest(OTHER)}"]`).replace(
        '[{"created_by":"x ] } \\" y"}]',
        '[{"comment":"gear.v1"}]',
      ),
    );
  });

  it('adds a history where there was none', () => {
    const text = `{"rootfs":{"type":"layers","diff_ids":[]}}`;
    expect(withLayers(Buffer.from(text), [], [{ comment: 'x' }]).toString()).toBe(
      `{"rootfs":{"type":"layers","diff_ids":[]},"history":[{"comment":"x"}]}`,
    );
  });
});

describe('spliceJson', () => {
  it('replaces values of every kind', () => {
    for (const value of ['1', '-1.5e3', '"a\\"b"', 'true', 'null', '[]', '{}', '[[1],{"a":"]"}]', '{"k":{"k":1}}']) {
      expect(spliceJson(`{"a":0,"k":${value},"z":1}`, ['k'], 'new')).toBe('{"a":0,"k":"new","z":1}');
      expect(spliceJson(` { "k" : ${value} } `, ['k'], 'new')).toBe(' { "k" : "new" } ');
    }
  });

  it('replaces the last of several, which is the one that counts', () => {
    expect(spliceJson('{"k":1,"k":2}', ['k'], 3)).toBe('{"k":1,"k":3}');
  });

  it('knows a key however it is written', () => {
    expect(spliceJson('{"\\u006b":1}', ['k'], 3)).toBe('{"\\u006b":3}');
  });

  it('appends what is missing, and refuses what leads nowhere', () => {
    expect(spliceJson('{}', ['k'], 3)).toBe('{"k":3}');
    expect(spliceJson('{ "a":1 }', ['k'], 3)).toBe('{ "a":1 ,"k":3}');
    expect(() => spliceJson('{}', ['a', 'k'], 3)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    expect(() => spliceJson('{"a":[]}', ['a', 'k'], 3)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

describe('parseConfig', () => {
  it('reads what Gear needs', () => {
    expect(parse(CONFIG)).toMatchObject({
      platform: { os: 'linux', architecture: 'amd64', variant: '' },
      diffIds: [LAYER],
      created: '2024-01-02T03:04:05.678901234Z',
    });
  });

  it('tells a Gear image by its lowest layer', () => {
    const history = (entries: object[]) => spliceJson(CONFIG, ['history'], entries);
    const gear = { comment: 'gear.v1' };
    expect(startsWithGearLayer(parse(CONFIG))).toBe(false);
    expect(startsWithGearLayer(parse(history([gear, {}])))).toBe(true);
    expect(startsWithGearLayer(parse(history([{ empty_layer: true }, gear])))).toBe(true);
    expect(startsWithGearLayer(parse(history([{}, gear])))).toBe(false);
  });

  it('refuses Windows by name', () => {
    expect(() => parse(spliceJson(CONFIG, ['os'], 'windows'))).toThrow(
      expect.objectContaining({ code: 'unsupported', message: expect.stringContaining('windows/amd64') }),
    );
  });

  it.each([
    ['no JSON', 'x'],
    ['no object', '[]'],
    ['a mark of byte order', `\ufeff${CONFIG}`],
    ['no rootfs', '{}'],
    ['a rootfs of another type', CONFIG.replace('"layers"', '"other"')],
    ['a diff id that is none', CONFIG.replace(ociDigest(LAYER), 'sha256:x')],
    ['another number of layers', spliceJson(CONFIG, ['rootfs', 'diff_ids'], [])],
  ])('refuses %s as corrupt', (_name, text) => {
    expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });

  it('refuses a config that is not the one of the manifest', () => {
    const bytes = Buffer.from(CONFIG);
    expect(() => parseConfig(Buffer.from(`${CONFIG} `), manifest(bytes), 'x')).toThrow(
      expect.objectContaining({ code: 'corrupt', message: expect.stringContaining(digestOf(bytes)) }),
    );
  });
});
