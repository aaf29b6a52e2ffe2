import { defineConfig } from 'vitest/config';

// Tests load through Node's own type stripping, so that syntax which fails in production fails here too.
const shared = { experimental: { viteModuleRunner: false }, environment: 'node', testTimeout: 20_000 } as const;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...shared,
          name: 'unit',
          include: ['{core,driver,manager,proto,deploy}/**/*.test.ts', 'test/unit/**/*.test.ts'],
        },
      },
      // Needs root and a Linux kernel; files run one after the other because they mount.
      {
        test: {
          ...shared,
          name: 'root',
          include: ['test/{kernel,root,conformance}/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      // Real dockerd, registry and runc. They mostly wait for each other, so two files at a time take little more than half the time.
      {
        test: {
          ...shared,
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          maxWorkers: 2,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      // docker-compose.yml, with a dockerd around the nodes' own.
      {
        test: {
          ...shared,
          name: 'stack',
          include: ['test/stack/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 1_200_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
