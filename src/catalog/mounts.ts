import type { Db } from './open/open-catalog.ts';

export function mountQueries(db: Db) {
  const open = db.prepare(
    'INSERT INTO restore_mounts (mount_id, backup_id, mount_path, created_at) VALUES (@mountId, @backupId, @mountPath, @at)',
  );
  const close = db.prepare(
    'UPDATE restore_mounts SET closed_at = @at, close_reason = @reason WHERE mount_id = @mountId AND closed_at IS NULL',
  );
  const closeAll = db.prepare(
    `UPDATE restore_mounts SET closed_at = @at, close_reason = 'daemon stopped' WHERE closed_at IS NULL`,
  );
  return {
    opened: (mount: { mountId: string; backupId: string; mountPath: string }, now: Date) =>
      open.run({ ...mount, at: now.toISOString() }),
    closed: (mountId: string, reason: string, now: Date) =>
      close.run({ mountId, reason, at: now.toISOString() }),
    /** At start: whatever is still open was left by a daemon that is gone. */
    closeLeftovers: (now: Date) => closeAll.run({ at: now.toISOString() }).changes,
  };
}

export type MountQueries = ReturnType<typeof mountQueries>;
