import { GearError } from '#core/errors.ts';
import type { Platform } from '#core/platform.ts';

export type { Platform } from '#core/platform.ts';

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  ia32: '386',
  i386: '386',
};
/** What a missing variant means. */
const USUAL_VARIANT: Readonly<Record<string, string>> = { arm64: 'v8', arm: 'v7' };

/** This machine's platform. */
export function hostPlatform(): Platform {
  return { os: 'linux', architecture: ARCHITECTURES[process.arch] ?? process.arch, variant: '' };
}

/** Reads "os/architecture[/variant]". Throws invalid-argument. */
export function parsePlatform(text: string): Platform {
  const match = /^([a-z0-9]+)\/([a-zA-Z0-9_-]+)(?:\/([a-zA-Z0-9.]+))?$/.exec(text);
  if (match === null) {
    throw new GearError(
      'invalid-argument',
      `platform ${JSON.stringify(text)}: it is written os/architecture[/variant], e.g. linux/arm64`,
    );
  }
  const [, os = '', architecture = '', variant = ''] = match;
  return { os, architecture: ARCHITECTURES[architecture] ?? architecture, variant };
}

/** As it is written: "linux/arm/v7". */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter((part) => part !== '').join('/');
}

/** Whether an image for `offered` is what `wanted` asks for. A variant that is not asked for may be any. */
export function platformMatches(wanted: Platform, offered: Platform): boolean {
  if (wanted.os !== offered.os || wanted.architecture !== offered.architecture) return false;
  if (wanted.variant === '') return true;
  return wanted.variant === (offered.variant === '' ? USUAL_VARIANT[offered.architecture] : offered.variant);
}

/**
 * The one of `offers` that is for `wanted`; without a variant asked for, the usual one of the architecture comes first. Undefined when
 * there is none.
 */
export function choosePlatform<T extends { readonly platform: Platform | undefined }>(
  offers: readonly T[],
  wanted: Platform,
): T | undefined {
  const fitting = offers.filter(({ platform }) => platform !== undefined && platformMatches(wanted, platform));
  const usual = USUAL_VARIANT[wanted.architecture] ?? '';
  return fitting.find(({ platform }) => platform?.variant === usual || platform?.variant === '') ?? fitting[0];
}
