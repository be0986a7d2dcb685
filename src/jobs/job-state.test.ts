import { expect, it } from 'vitest';
import { isFinished, nextStatus } from './job-state.ts';

it('lets a job end once and never come back', () => {
  expect(nextStatus('pending', 'start')).toBe('running');
  expect(nextStatus('pending', 'complete')).toBeNull();
  expect(nextStatus('running', 'cancel')).toBe('cancelled');
  for (const status of ['completed', 'failed', 'cancelled'] as const) {
    expect(isFinished(status)).toBe(true);
    for (const event of ['start', 'complete', 'fail', 'cancel'] as const)
      expect(nextStatus(status, event)).toBeNull();
  }
});
