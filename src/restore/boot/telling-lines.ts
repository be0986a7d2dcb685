/** Lines of a serial console after which nothing better comes, and what they mean. */
const endings: readonly (readonly [RegExp, (match: RegExpMatchArray) => string])[] = [
  [/Kernel panic - not syncing: (.*)/, (match) => `the guest's kernel panicked: ${match[1]}`],
  [/^BdsDxe: No bootable option or device/, () => 'the firmware found nothing to boot on its disks'],
  [/^UEFI Interactive Shell v/, () => 'the firmware found nothing to boot on its disks'],
  [/^(grub rescue> ?)$/, () => 'its boot loader did not find its files'],
  [/^You are in emergency mode/, () => 'it came up in emergency mode'],
  [/^\(initramfs\)/, () => 'it did not find its root file system'],
];

/** Lines of the log of SeaBIOS with the same meaning. */
const firmwareEndings = /^No bootable device\./m;

const LOGIN = /(^|\s)login:$/;

/** Why the guest will not come up any more; null while it may. Pure. */
export function endingOf(line: string): string | null {
  for (const [pattern, tell] of endings) {
    const match = pattern.exec(line);
    if (match) return tell(match);
  }
  return null;
}

/** The firmware runs what it found on a disk, as its log (BIOS) or the console (UEFI) tells. */
export const hasHandedOver = (log: string): boolean =>
  /^(Booting from Hard Disk|BdsDxe: starting )/m.test(log);
export const firmwareGaveUp = (log: string): boolean => firmwareEndings.test(log);

/** A machine that asks who is there is up. */
export const isLoginPrompt = (line: string): boolean => LOGIN.test(line.trimEnd());
