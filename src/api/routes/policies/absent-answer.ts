import { z } from 'zod';

/** Something that a policy names and that is not there. */
export const absentAnswer = z.object({ what: z.enum(['machine', 'repository', 'mirror']), name: z.string() });
