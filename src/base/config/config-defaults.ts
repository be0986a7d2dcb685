/** The value of every setting that nobody set, and why it is this one. */
export const configDefaults = {
  log: {
    /** Enough to follow every job; `debug` adds each tool call. */
    level: 'info',
  },
  exports: {
    /** The shape that operators know: one conf.d file per export, stock nbd-server. `storage-daemon` is faster. */
    backend: 'nbd-server',
  },
  jobs: {
    /** One transfer saturates two cores; a second one hides the latency of the first. */
    max_concurrent: 2,
    /** A frozen application must not wait for ever on a command that hangs. */
    hook_timeout_s: 120,
  },
  chain: {
    /** Beyond this every read walks too many tables; the chain is shortened in the background. */
    max_depth: 30,
    /** Off: a chain of `max_depth` layers ends with a full from the source instead. */
    consolidate: true,
    /** Leaves half of a single disk to those who wait for something; 0 is no limit. */
    consolidate_mib_per_s: 100,
  },
  retention: {
    /** Days and weeks mean the same for everybody until somebody says where he lives. */
    time_zone: 'UTC',
  },
  repository: {
    /** Left free so that manifests and the catalogue can always be written and a delete can run. */
    reserve_bytes: 64 * 1024 * 1024,
    /** Soon enough for who has just plugged a disk in; a look costs next to nothing. */
    poll_s: 2,
  },
  verify: {
    /** Every layer is compared with its digests about once a month, long before all copies of a lost disk are gone. 0: off. */
    scrub_percent_per_day: 3,
    /** A fifth of what one plain hard disk reads; a day's share of 10 TiB then takes less than three hours. */
    scrub_mib_per_s: 32,
    /** Small slices through the whole day rather than one long disturbance. */
    scrub_interval_s: 3600,
  },
  mounts: {
    /** `auto`: loop where there are privileges, else userspace. */
    mode: 'auto',
    /** The seed documents ask for one hour without use. */
    idle_timeout_s: 3600,
    /** Each mount is a storage daemon of about 25 MiB. */
    max: 16,
    /** A hostile file system could make journal replay write without end; honest ones write some MiB. */
    overlay_limit_bytes: 1024 * 1024 * 1024,
    /** Two cores pack about two archives at full speed; more only wait for each other. */
    max_downloads: 16,
    /** One restore point leaves room for the others. */
    max_downloads_per_mount: 8,
    /** Off: restoring is what matters most while it happens. 0 is no limit. */
    download_mib_per_s: 0,
  },
  restore: {
    /** An interrupted restore goes on from the last such point: minutes at most; smaller pieces cost a program start each. */
    segment_mib: 4096,
  },
  live: {
    /** Long enough to look into a machine, short enough that a forgotten export does not hold its backup for ever. */
    expires_s: 4 * 3600,
    /** Each is a storage daemon of about 25 MiB. */
    max: 16,
    /** What clients may write to one export before they get ENOSPC. */
    overlay_limit_bytes: 20 * 1024 * 1024 * 1024,
    /** Only this machine; any other address needs TLS, which is then always on. */
    tcp_address: '127.0.0.1',
  },
  libvirt: {
    /** On the libvirt host: on every Linux, cleared by nobody while a backup runs, and on disk rather than in memory. */
    scratch_folder: '/var/tmp',
    /** What a busy guest overwrites in some minutes. */
    scratch_mib: 1024,
  },
  policies: {
    /** Two streams keep one disk busy; more make each of them slower. */
    max_per_repository: 2,
    /** A host that serves its guests must not be read by more than this. */
    max_per_source: 2,
    /** Long enough to see what happened in the last quarter. */
    keep_runs_days: 90,
  },
  boot_test: {
    /** Each takes its memory and, without KVM, whole cores; more of them wait for their turn. */
    max: 2,
    /** Results of each restore point that are kept with their evidence; one takes up to 1 MiB and some pictures. */
    keep: 3,
    /** What a guest may write while it is tested; a start writes some 100 MiB. */
    overlay_limit_bytes: 20 * 1024 * 1024 * 1024,
  },
  api: {
    /** Off: only the unix socket, until somebody says where. */
    listen: '',
    /** Empty: one that the appliance makes for itself, to be pinned by its fingerprint. */
    tls_certificate: '',
    tls_key: '',
    /** Empty: the daemon's own group. Who is in it has every right. */
    socket_group: '',
  },
  agents: {
    /** Off: nothing listens until somebody says where. */
    listen: '',
    /** Off: the data way `ssh` needs an sshd of its own. */
    ssh_listen: '',
    /** `auto`: sendense-tunnel where this user exists, else nobody; without root the daemon's own user. */
    ssh_user: 'auto',
    /** Any free ones; firewalls want a range, as in 7500-7563. Each transfer of the way `tls` takes one. */
    data_ports: 'any',
    /** Long enough for a machine that is off for a season; the agent asks for a new one after two thirds. */
    certificate_s: 90 * 86_400,
    /** A switch is replaced and a host is rebooted in less; a machine's snapshot should not stay for longer. */
    patience_s: 600,
  },
} as const;
