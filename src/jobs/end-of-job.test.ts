import { expect, test } from 'vitest';
import { SendenseError } from '../base/sendense-error.ts';
import { endOf } from './end-of-job.ts';

const sentences = {
  completed: 'It is done.',
  cancelled: 'It was cancelled; nothing was kept.',
  failed: 'It failed: ',
};
const end = (status: 'completed' | 'failed' | 'cancelled', warnings: string[] = []) =>
  endOf(
    {
      status,
      warnings,
      error: status === 'completed' ? null : new SendenseError('VM_UNKNOWN', { vm: 'm' }).report(),
    },
    'backup',
    sentences,
  );

test('a good end is an info, one with warnings a warning', () => {
  expect(end('completed')).toEqual({ kind: 'backup.completed', severity: 'info', message: 'It is done.' });
  expect(end('completed', ['slow'])).toMatchObject({ severity: 'warning' });
});

test('a cancel is a warning in a sentence of its own', () => {
  expect(end('cancelled')).toEqual({
    kind: 'backup.cancelled',
    severity: 'warning',
    message: sentences.cancelled,
  });
});

test('a failure is an error with its reason', () => {
  expect(end('failed')).toEqual({
    kind: 'backup.failed',
    severity: 'error',
    message: 'It failed: No machine is called "m".',
  });
});
