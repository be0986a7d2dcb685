import { access } from 'node:fs/promises';
import { SendenseError } from '../../base/sendense-error.ts';

/** Where distributions put the UEFI firmware for QEMU; both files belong together. */
const places = [
  ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'],
  ['/usr/share/OVMF/OVMF_CODE.fd', '/usr/share/OVMF/OVMF_VARS.fd'],
  ['/usr/share/edk2/ovmf/OVMF_CODE.fd', '/usr/share/edk2/ovmf/OVMF_VARS.fd'],
] as const;

/** @throws BOOT_TEST_IMPOSSIBLE when none is installed */
export async function findUefi(): Promise<{ readonly code: string; readonly variables: string }> {
  for (const [code, variables] of places) {
    const isThere = await Promise.all([access(code), access(variables)]).then(
      () => true,
      () => false,
    );
    if (isThere) return { code, variables };
  }
  throw new SendenseError('BOOT_TEST_IMPOSSIBLE', {
    detail: 'the UEFI firmware for QEMU is not installed',
    action: 'apt-get install ovmf',
  });
}
