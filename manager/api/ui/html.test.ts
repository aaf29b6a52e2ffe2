import { describe, expect, it } from 'vitest';
import { html } from './html.ts';

describe('html', () => {
  it('escapes what strangers say', () => {
    const name = `<script>alert("1" + '2')</script>&amp;`;
    const safe = '&lt;script&gt;alert(&quot;1&quot; + &#39;2&#39;)&lt;/script&gt;&amp;amp;';
    expect(String(html`<b title="${name}">${name}</b>`)).toBe(`<b title="${safe}">${safe}</b>`);
    expect(String(html`${[name, html`<i>${name}</i>`]}`)).toBe(`${safe}<i>${safe}</i>`);
  });

  it('joins lists, and leaves out what is not there', () => {
    expect(String(html`<p>${['a', 1, [html`<br>`, undefined]]}${undefined}${0}</p>`)).toBe('<p>a1<br>0</p>');
    expect(String(html`plain`)).toBe('plain');
  });

  it('does not take for HTML what only looks like it', () => {
    const forged = { toString: () => '<script>' };
    expect(() => html`${forged as never}`).toThrow(TypeError);
  });
});
