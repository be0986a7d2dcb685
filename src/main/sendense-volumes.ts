/**
 * Serves the logical volumes of one mount. A process of its own: the storage daemon that shows them waits for it, and the
 * daemon must never wait for itself. The order comes as a line on stdin; when stdin closes nobody needs them any more.
 */
import { createInterface } from 'node:readline';
import { serveVolumes } from '../restore/volumes/serve-volumes.ts';
import type { VolumesSpec } from '../restore/volumes/volumes-spec.ts';

const lines = createInterface({ input: process.stdin });
lines.once('line', (line) => {
  // written by our own daemon, from the type above
  serveVolumes(JSON.parse(line) as VolumesSpec).then(
    () => process.stdout.write('ready\n'),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exit(1);
    },
  );
});
lines.once('close', () => process.exit(0));
