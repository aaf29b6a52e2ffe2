import type { Snapshots } from '../snapshots/snapshots.ts';
import type { ConversionState } from './conversions.ts';
import type { Snapshot } from './metadata.ts';

/** Layers that were unpacked though the client asked for less, by image. */
export interface OrdinaryImage {
  /** As the client named it; '' where it did not. */
  readonly image: string;
  readonly layers: number;
  /** Of the layer that was unpacked last. */
  readonly reason: string;
  /** What became of the request to convert it. */
  readonly conversion: 'not asked' | ConversionState['state'];
  readonly conversionFailed: string;
}

export interface ContainerdStatus {
  readonly socket: string;
  readonly active: number;
  readonly views: number;
  readonly committed: number;
  /** Of the committed ones, those that were never unpacked. */
  readonly lazy: number;
  readonly ordinary: readonly OrdinaryImage[];
  /** Conversions of images of which nothing is here any more, or not yet. */
  readonly conversions: readonly ConversionState[];
}

/** Says what containerd has here. */
export function containerdStatus(
  socket: string,
  all: readonly Snapshot[],
  snapshots: Snapshots,
  conversions: readonly ConversionState[],
): ContainerdStatus {
  const count = (kind: Snapshot['kind']) => all.filter((snapshot) => snapshot.kind === kind).length;
  const ordinary = new Map<string, OrdinaryImage>();
  for (const { ordinary: why } of all) {
    if (why === undefined) continue;
    const conversion = conversions.find(({ image }) => image === why.image);
    ordinary.set(why.image, {
      image: why.image,
      layers: (ordinary.get(why.image)?.layers ?? 0) + 1,
      reason: why.reason,
      conversion: conversion?.state ?? 'not asked',
      conversionFailed: conversion?.reason ?? '',
    });
  }
  return {
    socket,
    active: count('active'),
    views: count('view'),
    committed: count('committed'),
    lazy: all.filter(({ id }) => snapshots.find(String(id))?.image !== undefined).length,
    ordinary: [...ordinary.values()],
    conversions: conversions.filter(({ image }) => !ordinary.has(image)),
  };
}
