import { describe, expect, it } from 'vitest';
import { parseFilters } from './filter.ts';

const THING: Readonly<Record<string, string>> = {
  name: 'default/1/a',
  kind: 'active',
  parent: '',
  'labels.foo': 'bar',
  'labels.containerd.io/gc.root': 'x',
  'labels.number': '2',
  'labels.quoted "value"': 'with, comma',
};
const matches = (...filters: string[]): boolean => parseFilters(filters)((path) => THING[path.join('.')]);

describe("containerd's filters", () => {
  it.each([
    [],
    [''],
    ['kind==active'],
    ['kind==active,name==default/1/a'],
    ['kind==view', 'kind==active'],
    ['labels.foo'],
    ['labels."containerd.io/gc.root"==x'],
    ['labels.number==2'],
    ['parent'],
    ['parent==""'],
    ['kind!=view'],
    ['labels.missing!=x'],
    ['name~=^default/'],
    ['name~=/^default\\/1/'],
    ['name~=|a$|'],
    ['labels."quoted \\"value\\""=="with, comma"'],
    ['labels."quoted\\x20\\u0022value\\042"'],
    [' kind == active , labels.foo == bar'],
  ])('%j matches', (...filters) => {
    expect(matches(...(filters as string[]))).toBe(true);
  });

  it.each([
    ['kind==view'],
    ['kind==active,labels.missing'],
    ['kind==view', 'labels.missing'],
    ['parent!=""'],
    ['labels.missing==""'],
    ['name~=^view'],
    ['name~=('],
    ['labels.foo.bar'],
  ])('%j does not', (...filters) => {
    expect(matches(...(filters as string[]))).toBe(false);
  });

  it.each([
    ['kind=active'],
    ['kind=='],
    ['==x'],
    ['kind==active,'],
    ['kind==active labels'],
    ['labels.'],
    ['labels."open'],
    ['labels."\\q"'],
    ['labels."\\x4"'],
    ['name==/quoted/'],
    ['|kind|==active'],
    ['a b'],
    ['kind==active;x==\u0000'],
  ])('%j is refused', (filter) => {
    const refused = () => parseFilters([filter]);
    expect(refused).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});
