import { z } from 'zod';
import { defaultMirrorSettings, type MirrorRecord } from '../../../catalog/mirrors/mirrors.ts';
import { changeMirror, type MirrorChange } from '../../../jobs/mirror/change-mirror.ts';
import { findRecord, type MirrorDeps, placeLabel } from '../../../jobs/mirror/mirror-deps.ts';
import { addKey, listKeys, removeKey } from '../../../jobs/mirror/mirror-keys.ts';
import { mirroredBackups } from '../../../jobs/mirror/mirror-points.ts';
import { addMirror, attachMirror, removeMirror } from '../../../jobs/mirror/set-up-mirror.ts';
import { defineRoute, type Route } from '../../route.ts';
import { path, repositoryName } from '../../schemas.ts';
import { changeOf, type SettingsBody, settings } from './mirror-settings.ts';

const tag = 'mirrors';
export const mirrorName = repositoryName.meta({ description: 'Name of a mirror' });
const params = z.object({ mirror: mirrorName });
export const mirrorAnswer = z.looseObject({
  name: z.string(),
  place: z.string(),
  mode: z.enum(['packed', 'plain']),
  encrypted: z.boolean(),
  read_only: z.boolean(),
  restore_points: z.number(),
  newest: z.string().nullable(),
  stored_bytes: z.number(),
  capabilities: z.record(z.string(), z.unknown()).nullable(),
});
const place = {
  name: mirrorName,
  endpoint: z.string().min(1).max(512),
  region: z.string().min(1).max(64).default('us-east-1'),
  bucket: z.string().min(1).max(255),
  prefix: z.string().max(200).default(''),
  access_key: z.string().min(1).max(256),
  secret_key_file: path.startsWith('/'),
  path_style: z.boolean().default(true),
  tls_ca_file: path.startsWith('/').nullish(),
  passphrase_file: path.startsWith('/').nullish(),
};
/** S3 mirrors: what they are. What is done with them is in `mirror-work-routes.ts`. */
export function mirrorRoutes(deps: MirrorDeps): Route[] {
  const view = (record: MirrorRecord) => {
    const backups = mirroredBackups(deps.catalog.mirrors.points(record.name));
    const { settings: current, isEncrypted, epoch, accessKey, secretKeyFile, pathStyle, tlsCaFile } = record;
    const { name, endpoint, region, bucket, prefix, mode, blockBytes, capabilities, createdAt } = record;
    return {
      ...{ name, endpoint, region, bucket, prefix, accessKey, secretKeyFile, pathStyle, tlsCaFile },
      ...{ mode, blockBytes, capabilities, createdAt },
      mirrorId: record.mirrorId,
      place: placeLabel(record),
      encrypted: isEncrypted,
      readOnly: epoch === null,
      restorePoints: backups.filter(({ isWhole }) => isWhole).length,
      newest: backups[0]?.completedAt ?? null,
      storedBytes: backups.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      settings: current,
    };
  };
  const orderOf = (body: z.infer<z.ZodObject<typeof place>> & SettingsBody) => ({
    name: body.name,
    endpoint: body.endpoint,
    region: body.region,
    bucket: body.bucket,
    prefix: body.prefix,
    accessKey: body.access_key,
    secretKeyFile: body.secret_key_file,
    pathStyle: body.path_style,
    tlsCaFile: body.tls_ca_file ?? null,
    passphraseFile: body.passphrase_file ?? null,
    settings: { ...defaultMirrorSettings, ...changeOf(body) },
  });
  return [
    defineRoute({
      method: 'get',
      path: '/mirrors',
      tag,
      summary: 'All mirrors',
      access: { role: 'viewer', about: 'appliance' },
      answer: z.object({ mirrors: z.array(mirrorAnswer) }),
      handle: async () => ({ mirrors: deps.catalog.mirrors.all().map(view) }),
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors',
      tag,
      status: 201,
      summary: 'Make a new mirror in a bucket',
      access: { role: 'admin', about: 'appliance' },
      body: z.strictObject({
        ...place,
        ...settings,
        mode: z.enum(['packed', 'plain']).default('packed'),
        block_mib: z
          .union([z.literal(1), z.literal(2), z.literal(4), z.literal(8), z.literal(16)])
          .default(1)
          .meta({ description: 'Of the mode plain: size of a block object' }),
        create_bucket: z.boolean().default(false),
      }),
      answer: mirrorAnswer,
      handle: async ({ body }) =>
        view(
          await addMirror(deps, {
            ...orderOf(body),
            mode: body.mode,
            blockBytes: body.block_mib * 1024 ** 2,
            createBucket: body.create_bucket,
          }),
        ),
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/attach',
      tag,
      status: 201,
      summary: 'Take a mirror that is there already: to read it, or to go on with it',
      access: { role: 'admin', about: 'appliance' },
      body: z.strictObject({
        ...place,
        ...settings,
        take_over: z
          .boolean()
          .default(false)
          .meta({ description: 'This appliance writes from now on; the one before is refused' }),
      }),
      answer: mirrorAnswer.extend({ damaged: z.array(z.string()) }),
      handle: async ({ body }) => {
        const { record, damaged } = await attachMirror(deps, { ...orderOf(body), takeOver: body.take_over });
        return { ...view(record), damaged };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/mirrors/{mirror}',
      tag,
      summary: 'One mirror',
      access: { role: 'viewer', about: 'appliance' },
      params,
      answer: mirrorAnswer,
      handle: async ({ params: { mirror } }) => view(findRecord(deps, mirror)),
    }),
    defineRoute({
      method: 'patch',
      path: '/mirrors/{mirror}',
      tag,
      summary: 'Change how a mirror is reached and used',
      access: { role: 'admin', about: 'appliance' },
      params,
      body: z.strictObject({
        ...settings,
        access_key: place.access_key.optional(),
        secret_key_file: place.secret_key_file.optional(),
        tls_ca_file: place.tls_ca_file,
      }),
      answer: mirrorAnswer,
      handle: async ({ params: { mirror }, body }) => {
        const change: MirrorChange = {
          settings: changeOf(body),
          ...(body.access_key === undefined ? {} : { accessKey: body.access_key }),
          ...(body.secret_key_file === undefined ? {} : { secretKeyFile: body.secret_key_file }),
          ...(body.tls_ca_file === undefined ? {} : { tlsCaFile: body.tls_ca_file }),
        };
        return view(changeMirror(deps, mirror, change));
      },
    }),
    defineRoute({
      method: 'delete',
      path: '/mirrors/{mirror}',
      tag,
      summary: 'Forget a mirror; everything in the bucket stays',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: z.object({ name: z.string(), place: z.string(), removed: z.boolean() }),
      handle: async ({ params: { mirror } }) => {
        const record = await removeMirror(deps, mirror);
        return { name: record.name, place: placeLabel(record), removed: true };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/mirrors/{mirror}/keys',
      tag,
      summary: 'The keys that open a mirror',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: z.object({ keys: z.array(z.looseObject({ slot: z.number(), kind: z.string() })) }),
      handle: async ({ params: { mirror } }) => ({ keys: await listKeys(deps, mirror) }),
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/keys',
      tag,
      status: 201,
      summary: 'Add a passphrase, or make a recovery key that only this answer tells',
      access: { role: 'admin', about: 'appliance' },
      secretFields: ['recovery_key'],
      params,
      body: z.strictObject({
        passphrase_file: path.startsWith('/').optional(),
        label: z.string().max(100).default(''),
      }),
      answer: z.object({ slot: z.number(), recovery_key: z.string().nullable() }),
      handle: async ({ params: { mirror }, body }) =>
        await addKey(deps, mirror, { passphraseFile: body.passphrase_file ?? null, label: body.label }),
    }),
    defineRoute({
      method: 'delete',
      path: '/mirrors/{mirror}/keys/{slot}',
      tag,
      summary: 'Take a key away; the last one stays',
      access: { role: 'admin', about: 'appliance' },
      params: z.object({ mirror: mirrorName, slot: z.string().regex(/^[1-9]\d?$/, 'the number of a key') }),
      answer: z.object({ slot: z.number() }),
      handle: async ({ params: { mirror, slot } }) => await removeKey(deps, mirror, Number(slot)),
    }),
  ];
}
