import { digestFromBytes, digestToBytes, ociDigest, parseDigest } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { type MonitorServer, MonitorService, type Profile as WireProfile } from '#proto/gen/gear/v1/monitor.ts';
import type { Nodes } from '../monitor/nodes.ts';
import { MAX_ITEMS, Profile } from '../monitor/profile.ts';
import { isFresh } from '../monitor/profile-plan.ts';
import { type Profiles, piecesOf } from '../monitor/profiles.ts';
import type { Handlers } from './handlers.ts';
import { hostOf } from './transfers.ts';

/** How often nodes are to report. */
export const HEARTBEAT_SECONDS = 10;
/** Touches in one report. */
const MAX_TOUCHES = 4096;

/** The monitor service of monitor.proto. */
export function monitorService(nodes: Nodes, profiles: Profiles, handlers: Handlers): MonitorServer {
  return {
    heartbeat: handlers.unary(MonitorService.heartbeat, async (heartbeat, { transfer }) => {
      nodes.report(heartbeat, Date.now(), hostOf(transfer.peer));
      return { intervalSeconds: HEARTBEAT_SECONDS };
    }),
    listNodes: handlers.unary(MonitorService.listNodes, async () => ({ nodes: nodes.list() })),
    reportTouches: handlers.unary(MonitorService.reportTouches, async (report, { signal }) => {
      const { image, chunkSize, first, complete } = report;
      if (report.touches.length > MAX_TOUCHES) {
        throw new GearError('invalid-argument', `${report.touches.length} touches; at most ${MAX_TOUCHES} are taken`);
      }
      checkChunkSize(chunkSize);
      const touches = report.touches.map(({ digest, chunk, milliseconds }) => ({
        digest: digestFromBytes(digest),
        chunk,
        milliseconds,
      }));
      await profiles.report({ image: parseDigest(image), chunkSize, touches, first, complete }, { signal });
      return {};
    }),
    getProfile: handlers.unary(MonitorService.getProfile, async ({ image }, { signal }) => {
      const digest = parseDigest(image);
      const profile = await profiles.get(digest, { signal });
      await using pack = await profiles.openPack(digest);
      const isPrepared = pack !== undefined && isFresh(piecesOf(profile), pack.frames);
      return profileToWire(profile, isPrepared ? pack.bytes : 0);
    }),
    putProfile: handlers.unary(MonitorService.putProfile, async (profile) => {
      await profiles.put(profileFromWire(profile));
      return {};
    }),
    resetProfile: handlers.unary(MonitorService.resetProfile, async ({ image }) => {
      if (!(await profiles.reset(parseDigest(image)))) {
        throw new GearError('not-found', `image ${image}: there is no start-up profile`);
      }
      return {};
    }),
  };
}

function checkChunkSize(chunkSize: number): void {
  if (chunkSize < 4096 || chunkSize > 64 * 1024 * 1024)
    throw new GearError('invalid-argument', `chunks of ${chunkSize} bytes`);
}

function profileToWire(profile: Profile, preparedBytes: number): WireProfile {
  const chosen = new Set(profile.chosen());
  return {
    image: ociDigest(profile.image),
    chunkSize: profile.chunkSize,
    runs: profile.runs,
    inheritedFrom: profile.inheritedFrom === undefined ? '' : ociDigest(profile.inheritedFrom),
    updatedAt: BigInt(profile.updatedAt),
    preparedBytes: BigInt(preparedBytes),
    items: profile.items().map((item) => ({
      digest: digestToBytes(item.digest),
      chunk: item.chunk,
      milliseconds: Math.round(item.milliseconds),
      seen: Math.round(item.seen),
      chances: Math.round(profile.chances(item)),
      chosen: chosen.has(item),
      bytes: item.bytes,
    })),
  };
}

function profileFromWire({ image, chunkSize, runs, inheritedFrom, items }: WireProfile): Profile {
  checkChunkSize(chunkSize);
  if (items.length > MAX_ITEMS) throw new GearError('invalid-argument', `a profile has at most ${MAX_ITEMS} items`);
  const facts = {
    image: parseDigest(image),
    chunkSize,
    runs: Math.max(1, runs),
    inheritedFrom: inheritedFrom === '' ? undefined : parseDigest(inheritedFrom),
    updatedAt: Date.now(),
  };
  return new Profile(
    facts,
    items.map(({ digest, chunk, milliseconds, seen, chances, bytes }) => ({
      digest: digestFromBytes(digest),
      chunk,
      bytes,
      seen: Math.min(seen, facts.runs),
      skipped: Math.max(0, facts.runs - chances),
      milliseconds,
    })),
  );
}
