import { say } from '../output.ts';

export interface AbsentView {
  readonly what: string;
  readonly name: string;
}

/** Tells what a policy names and nobody has, with what to do about it. */
export function sayAbsent(policy: string, absent: readonly AbsentView[]): void {
  for (const { what, name } of absent) say(`warning: ${absentText(policy, { what, name })}`);
}

/** One sentence and the next command. Pure. */
export const absentText = (policy: string, { what, name }: AbsentView): string =>
  what === 'machine'
    ? `the policy ${policy} names the machine "${name}", which is not registered: sendense-ctl vm add ${name} …, or correct the name`
    : `the policy ${policy} names the ${what} "${name}", which does not exist, so it cannot run: sendense-ctl ${what} add ${name} …, or sendense-ctl policy set ${policy} --${what} OTHER`;
