import { Counter, Gauge, type Registry } from 'prom-client';

/** Of each machine; all have the label `machine`. */
const ofMachines = {
  lastSuccess: [
    'machine_last_success_timestamp_seconds',
    'When the newest successful backup ended, Unix time.',
  ],
  lastSeconds: ['machine_last_backup_duration_seconds', 'How long the newest successful backup took.'],
  lastBytes: [
    'machine_last_backup_transferred_bytes',
    'Bytes that the newest successful backup read from the machine.',
  ],
  lastOk: ['machine_last_backup_ok', '1: the newest attempt of a backup succeeded; 0: it failed.'],
  goodAge: [
    'machine_newest_good_point_age_seconds',
    'Age of the newest restore point in which no damage is known; copies count. Absent: there is none.',
  ],
  verifiedAge: [
    'machine_last_verified_age_seconds',
    'Age of the newest verification of any restore point. Absent: never verified.',
  ],
  chainDepth: ['machine_chain_depth', 'Layers of the longest chain.'],
} as const;

const ofAppliance = {
  machines: ['machines', 'Registered machines.', []],
  unprotected: ['machines_without_good_point', 'Registered machines without any good restore point.', []],
  leftOut: ['machines_left_out', 'Machines beyond the limit of series, of which nothing else is shown.', []],
  jobs: ['jobs', 'Jobs that wait (pending) or run (running).', ['status']],
  repositoryUp: ['repository_up', '1: the repository is there; 0: it is away.', ['repository']],
  available: ['repository_available_bytes', 'Free space of the file system of a repository.', ['repository']],
  size: ['repository_size_bytes', 'Size of the file system of a repository.', ['repository']],
  used: ['repository_layers_bytes', 'Length of all layers in a repository.', ['repository']],
  mirrorMissing: ['mirror_missing_points', 'Restore points that a mirror has not got.', ['mirror']],
  mirrorLag: [
    'mirror_lag_seconds',
    'How long the oldest restore point that a mirror has not got has been complete; 0: it has all.',
    ['mirror'],
  ],
  mounts: ['mounts', 'Restore points that are mounted.', []],
  lives: ['live_exports', 'Restore points that are served as live exports.', []],
  tokensExpiring: ['tokens_expiring', 'Tokens in use that expire within seven days.', []],
  certificate: [
    'certificate_expiry_timestamp_seconds',
    'When the TLS certificate of the API expires, Unix time.',
    [],
  ],
  notifyPending: ['notifications_pending', 'Notifications that could not be delivered yet.', []],
  build: ['build_info', 'Always 1; the labels say what runs.', ['version', 'node', 'qemu']],
  scrape: ['scrape_duration_seconds', 'How long it took to compute these metrics.', []],
} as const;

const PREFIX = 'sendense_';

type Names<T> = Readonly<Record<keyof T, Gauge>>;

/** All metrics, registered. Their names and labels are a contract, as JSON answers are. */
export function makeGauges(registry: Registry) {
  const gauge = (name: string, help: string, labelNames: readonly string[]) =>
    new Gauge({ name: PREFIX + name, help, labelNames: [...labelNames], registers: [registry] });
  return {
    machine: Object.fromEntries(
      Object.entries(ofMachines).map(([key, [name, help]]) => [key, gauge(name, help, ['machine'])]),
    ) as Names<typeof ofMachines>,
    appliance: Object.fromEntries(
      Object.entries(ofAppliance).map(([key, [name, help, labels]]) => [key, gauge(name, help, labels)]),
    ) as Names<typeof ofAppliance>,
    events: new Counter({
      name: `${PREFIX}events_total`,
      help: 'Events in the log, by kind and severity.',
      labelNames: ['kind', 'severity'],
      registers: [registry],
    }),
  };
}

export type Gauges = ReturnType<typeof makeGauges>;
