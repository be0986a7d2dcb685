import { z } from 'zod';
import type { Vm } from '../../../catalog/vms.ts';
import { findVm } from '../../../jobs/find-backup.ts';
import { addVm, changeVm, discoverVms, removeVm, type VmDeps } from '../../../jobs/manage-vms.ts';
import { labelKey, labelValue } from '../../../policy/definition/policy.ts';
import { defineRoute, type Route } from '../../route.ts';
import { flag, foundMachine, libvirtReference, path, vmAnswer, vmName } from '../../schemas.ts';
import { vmView } from '../../views.ts';

const tag = 'vms';
const disk = z.strictObject({ path, format: z.enum(['raw', 'qcow2']).optional() });
const command = z.string().min(1).max(4096);
const unprotected = z.string().min(1).max(500);
const vmParams = z.object({ vm_name: vmName });

/** What is absent stays as it is. */
function referenceOf(body: z.infer<typeof libvirtReference> | undefined) {
  if (body === undefined) return undefined;
  return {
    ...(body.uri === undefined ? {} : { uri: body.uri }),
    ...(body.domain === undefined ? {} : { domain: body.domain }),
    ...(body.include_disks === undefined ? {} : { includeDisks: body.include_disks }),
    ...(body.exclude_disks === undefined ? {} : { excludeDisks: body.exclude_disks }),
    ...(body.freeze === undefined ? {} : { freeze: body.freeze }),
  };
}

export function vmRoutes(deps: VmDeps): Route[] {
  const view = (vm: Vm) => vmView(vm, deps.catalog);
  return [
    defineRoute({
      method: 'post',
      path: '/vms',
      tag,
      status: 201,
      summary: 'Register a machine with its disks',
      access: { role: 'admin', about: 'appliance' },
      answer: vmAnswer,
      body: z.strictObject({
        name: vmName,
        /** Image files and block devices; not together with `libvirt`. */
        disks: z.array(disk).max(256).default([]),
        libvirt: libvirtReference.optional(),
        agent: vmName.optional().meta({ description: 'Name of the agent at which the disks are' }),
        before: command.optional(),
        after: command.optional(),
        allow_backing: z.array(path).max(64).default([]),
        labels: z.record(labelKey, labelValue).optional(),
        unprotected: unprotected
          .optional()
          .meta({ description: 'Why it needs no backups; coverage then does not complain' }),
      }),
      handle: async ({ body }) =>
        view(
          await addVm(deps, body.name, {
            addDisks: body.disks,
            agent: body.agent,
            before: body.before,
            after: body.after,
            allowBacking: body.allow_backing,
            labels: body.labels,
            unprotected: body.unprotected,
            libvirt: referenceOf(body.libvirt),
          }),
        ),
    }),
    defineRoute({
      method: 'get',
      path: '/libvirt/domains',
      tag,
      summary: 'The machines of a libvirt',
      access: { role: 'admin', about: 'appliance' },
      answer: z.object({ machines: z.array(foundMachine) }),
      query: z.object({ uri: z.string().min(1).max(1024).default('qemu:///system') }),
      handle: async ({ query }) => ({ machines: await discoverVms(deps, query.uri) }),
    }),
    defineRoute({
      method: 'get',
      path: '/vms',
      tag,
      summary: 'All machines',
      access: { role: 'viewer', about: 'listed' },
      answer: z.object({ vms: z.array(vmAnswer) }),
      handle: async ({ caller }) => ({
        vms: deps.catalog.vms
          .all()
          .filter(({ name }) => caller.sees(name))
          .map(view),
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/vms/{vm_name}',
      tag,
      summary: 'One machine',
      access: { role: 'viewer', about: ['vm_name'] },
      params: vmParams,
      answer: vmAnswer,
      handle: async ({ params }) => view(findVm(deps.catalog, params.vm_name)),
    }),
    defineRoute({
      method: 'patch',
      path: '/vms/{vm_name}',
      tag,
      summary: 'Change the disks or commands of a machine',
      // commands and disks that it names are run and read by the appliance, and labels are what tokens are limited by
      access: { role: 'admin', about: 'appliance' },
      params: vmParams,
      answer: vmAnswer,
      body: z.strictObject({
        add_disks: z.array(disk).max(256).optional(),
        remove_disks: z.array(z.string().min(1).max(4096)).max(256).optional(),
        before: command.nullable().optional(),
        after: command.nullable().optional(),
        allow_backing: z.array(path).max(64).optional(),
        labels: z
          .record(labelKey, labelValue.nullable())
          .optional()
          .meta({ description: 'Labels to set; null takes one away, others stay' }),
        unprotected: unprotected.nullable().optional(),
        libvirt: libvirtReference.optional(),
      }),
      handle: async ({ params, body }) =>
        view(
          await changeVm(deps, params.vm_name, {
            addDisks: body.add_disks,
            removeDisks: body.remove_disks,
            before: body.before,
            after: body.after,
            allowBacking: body.allow_backing,
            labels: body.labels,
            unprotected: body.unprotected,
            libvirt: referenceOf(body.libvirt),
          }),
        ),
    }),
    defineRoute({
      method: 'delete',
      path: '/vms/{vm_name}',
      tag,
      status: 204,
      summary: 'Remove the registration of a machine',
      access: { role: 'admin', about: ['vm_name'] },
      params: vmParams,
      query: z.strictObject({ keep_backups: flag }),
      answer: z.null(),
      handle: async ({ params, query }) => removeVm(deps, params.vm_name, query.keep_backups),
    }),
  ];
}
