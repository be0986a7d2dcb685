import { describe, expect, it } from 'vitest';
import { exportNameFor, isExportName } from './export-name.ts';

const startedAt = new Date('2025-10-05T12:00:00Z');

describe('exportNameFor', () => {
  it('is the name of the seed documents when it fits', () => {
    expect(
      exportNameFor({ contextId: 'ctx-pgtest2-20251005-120000', diskIndex: 0, type: 'full', startedAt }),
    ).toBe('backup-ctx-pgtest2-20251005-120000-disk0-full-20251005T120000');
  });

  it('is another one for each attempt', () => {
    const parts = {
      contextId: 'ctx-pgtest2-20251005-120000',
      diskIndex: 0,
      type: 'full',
      startedAt,
    } as const;
    const names = [1, 2, 3].map((attempt) => exportNameFor({ ...parts, attempt }));
    expect(new Set(names).size).toBe(3);
    expect(names[0]).toBe(exportNameFor(parts));
    for (const name of names) expect(name.length).toBeLessThanOrEqual(63);
  });

  it('never gives two machines one name, however long or alike they are', () => {
    const names = [
      'ctx-VM_A-20251005-120000',
      'ctx-vm-a-20251005-120000',
      'ctx-vm_a-20251005-120000',
      `ctx-${'x'.repeat(64)}a-20251005-120000`,
      `ctx-${'x'.repeat(64)}b-20251005-120000`,
    ].map((contextId) => exportNameFor({ contextId, diskIndex: 12, type: 'incremental', startedAt }));
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) {
      expect(name.length).toBeLessThanOrEqual(63);
      expect(isExportName(name)).toBe(true);
    }
  });
});
