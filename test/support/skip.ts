import type { TestContext } from 'vitest';

declare module 'vitest' {
  interface TaskMeta {
    /** Why a test was skipped, for the list at the end of test/run. */
    skipReason?: string;
  }
}

/** Skips the running test and says why; test/run counts it and lists the reason. */
export function skip(context: TestContext, reason: string): never {
  context.task.meta.skipReason = reason;
  return context.skip(reason);
}
