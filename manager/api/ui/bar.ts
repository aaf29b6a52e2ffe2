import { type Html, html } from './html.ts';

/** A part of a bar: of which colour (a class of style.css), how much, and what it stands for. */
export interface BarPart {
  readonly kind: 'accent' | 'soft' | 'faint' | 'bad';
  readonly amount: number;
}

/** A bar whose parts fill as much of it as they are of `total`. Drawn with attributes, as the policy of the page forbids inline styles. */
export function bar(label: string, total: number, parts: readonly BarPart[]): Html {
  let left = 0;
  const drawn = parts.map(({ kind, amount }) => {
    const width = total <= 0 ? 0 : Math.min(100 - left, Math.max(0, (100 * amount) / total));
    const rectangle = html`<rect class="${kind}" x="${left.toFixed(2)}" width="${width.toFixed(2)}" height="8"></rect>`;
    left += width;
    return rectangle;
  });
  return html`<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="${label}">${drawn}</svg>`;
}

/** "42 %" of a share from 0 to 1. Only all is 100 %, and only nothing 0 %. */
export function percent(share: number): string {
  if (!Number.isFinite(share) || share <= 0) return '0 %';
  if (share >= 1) return '100 %';
  return `${Math.min(99, Math.max(1, Math.round(share * 100)))} %`;
}
