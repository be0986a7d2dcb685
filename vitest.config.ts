import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: ['test/support/s3-global.ts'],
    pool: 'forks',
    // the machine of the tests has two cores, and most tests start programs of their own; with three, guests under TCG are too slow
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 120_000,
  },
});
