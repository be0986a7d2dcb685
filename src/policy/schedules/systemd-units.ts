import { type Policy, type PolicyKind, policyKinds, scheduleOf } from '../definition/policy.ts';
import { onCalendar } from './on-calendar.ts';
import { parseSchedule } from './schedule.ts';

/** A file for a folder of units, as /etc/systemd/system. */
export interface UnitFile {
  readonly name: string;
  readonly content: string;
}

/** How the services call the appliance. */
export interface Caller {
  /** Absolute path of `sendense-ctl`. */
  readonly ctl: string;
  /** Null: the appliance of an installed system. */
  readonly home: string | null;
}

/** Nothing that systemd would read in another way. */
export const plainPath = /^\/[A-Za-z0-9._/+@-]{1,500}$/;

const what: Readonly<Record<PolicyKind, string>> = {
  backup: 'backups',
  prune: 'the deletion of restore points that no rule keeps',
  verify: 'the verification of restore points',
  mirror: 'the upload to mirrors',
  'boot-test': 'boot tests',
};

/** The first line of whatever was exported: only such files are replaced and removed by the next export. */
export const EXPORTED = '# Written by `sendense-ctl schedule export`; the next export replaces it.';

/** A service that runs one kind of work of the policy that stands behind the @. */
export function serviceUnit(kind: PolicyKind, { ctl, home }: Caller): UnitFile {
  const place = home === null ? '' : ` --home ${home}`;
  return {
    name: `sendense-${kind}@.service`,
    content: `[Unit]
Description=Sendense: ${what[kind]} of the policy %i
After=sendensed.service network-online.target
Wants=network-online.target

[Service]
Type=oneshot
ExecStart=${ctl}${place} policy run %i --kind ${kind} --started-by systemd --wait
# 11: a run of this kind goes on already; the next time is soon enough. 13: nothing to do
SuccessExitStatus=11 13
# a first full may take days
TimeoutStartSec=infinity
Nice=5
`,
  };
}

/** A timer for a policy that was given its own times by hand: `systemctl enable --now sendense-backup@NAME.timer`. */
export const timerTemplate = (kind: PolicyKind): UnitFile => ({
  name: `sendense-${kind}@.timer`,
  content: timerText(kind, '%i', ['*-*-* 22:00:00'], 600),
});

const timerText = (
  kind: PolicyKind,
  policy: string,
  calendar: readonly string[],
  jitterS: number,
): string => `[Unit]
Description=Sendense: when ${what[kind]} of the policy ${policy} begin

[Timer]
${calendar.map((line) => `OnCalendar=${line}`).join('\n')}
# what was missed while the machine was off is made up for, once
Persistent=true
AccuracySec=1s
RandomizedDelaySec=${jitterS}
FixedRandomDelay=true

[Install]
WantedBy=timers.target
`;

/**
 * A timer for each schedule of the policies that systemd runs, and the services that they start. Pure.
 * Allowed hours and priorities are the daemon's: it makes a job wait for them.
 */
export function unitsOf(policies: readonly Policy[], caller: Caller): UnitFile[] {
  const timers = policies
    .filter(({ runner }) => runner === 'systemd')
    .flatMap((policy) =>
      policyKinds.flatMap((kind) => {
        const text = scheduleOf(policy, kind);
        if (text === null) return [];
        const calendar = onCalendar(parseSchedule(text), policy.time_zone);
        const content = timerText(kind, policy.name, calendar, policy.jitter_s);
        return [{ kind, name: `sendense-${kind}@${policy.name}.timer`, content }];
      }),
    );
  const kinds = policyKinds.filter((kind) => timers.some((timer) => timer.kind === kind));
  const units = [...timers, ...kinds.map((kind) => serviceUnit(kind, caller))];
  return units.map(({ name, content }) => ({ name, content: `${EXPORTED}\n${content}` }));
}
