import { z } from 'zod';
import type { AgentOffice, AgentView } from '../../../agent/hub/agent-office.ts';
import { shortKey } from '../../../agent/hub/enrolment-desk.ts';
import { SendenseError } from '../../../base/sendense-error.ts';
import { defineRoute, type Route } from '../../route.ts';
import { path, vmName } from '../../schemas.ts';

const tag = 'agents';
const agentName = vmName.meta({ description: 'Name of an agent' });
const params = z.object({ agent_name: agentName });
const dataWay = z.enum(['local', 'ssh', 'tls']);
const rate = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const clock = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'a time of day such as 08:00');
const window = z.strictObject({ from: clock, to: clock, rate_bytes: rate });

const agentAnswer = z.object({
  name: z.string(),
  agent_id: z.string(),
  status: z.enum(['pending', 'approved', 'revoked']),
  connected: z.boolean(),
  key: z.string(),
  host_name: z.string(),
  version: z.string(),
  data_way: dataWay,
  rate_bytes: rate,
  windows: z.array(window),
  time_zone: z.string(),
  clock_skew_s: z.number().nullable(),
  machines: z.array(z.string()),
  certificate_until: z.string().nullable(),
  created_at: z.string(),
  approved_at: z.string().nullable(),
  revoked_at: z.string().nullable(),
  last_seen_at: z.string().nullable(),
});

const view = (agent: AgentView) => ({
  name: agent.name,
  agentId: agent.agentId,
  status: agent.status,
  connected: agent.isConnected,
  key: shortKey(agent),
  hostName: agent.hostName,
  version: agent.version,
  dataWay: agent.dataWay,
  rateBytes: agent.rateBytes,
  windows: agent.windows,
  timeZone: agent.timeZone,
  clockSkewS: agent.clockSkewMs === null ? null : Math.round(agent.clockSkewMs / 1000),
  machines: agent.machines,
  certificateUntil: agent.certificateUntil,
  createdAt: agent.createdAt,
  approvedAt: agent.approvedAt,
  revokedAt: agent.revokedAt,
  lastSeenAt: agent.lastSeenAt,
});

/** @param given null: this daemon does not listen for agents */
export function agentRoutes(given: AgentOffice | null): Route[] {
  const office = (): AgentOffice => {
    if (given === null) throw new SendenseError('AGENTS_OFF');
    return given;
  };
  return [
    defineRoute({
      method: 'get',
      path: '/agents',
      tag,
      summary: 'All agents',
      access: { role: 'viewer', about: 'appliance' },
      answer: z.object({ agents: z.array(agentAnswer) }),
      handle: async () => ({ agents: given === null ? [] : given.list().map(view) }),
    }),
    defineRoute({
      method: 'post',
      path: '/agents/invite',
      tag,
      status: 201,
      summary: 'Make a pairing code, good once and for ten minutes',
      access: { role: 'admin', about: 'appliance' },
      secretFields: ['code'],
      body: z.strictObject({ name: agentName.optional(), auto_approve: z.boolean().default(false) }),
      answer: z.object({ code: z.string().nullable(), expires_at: z.string(), port: z.number() }),
      handle: async ({ body }) => {
        const { code, expiresAt } = office().desk.invite(body.name ?? null, body.auto_approve);
        return { code, expiresAt: expiresAt.toISOString(), port: office().port };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/agents/{agent_name}',
      tag,
      summary: 'One agent',
      access: { role: 'viewer', about: 'appliance' },
      params,
      answer: agentAnswer,
      handle: async ({ params: { agent_name } }) => view(office().show(agent_name)),
    }),
    defineRoute({
      method: 'post',
      path: '/agents/{agent_name}/approve',
      tag,
      summary: 'Give a waiting agent its certificate',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: agentAnswer,
      handle: async ({ params: { agent_name } }) =>
        view(office().show(office().desk.approve(agent_name).name)),
    }),
    defineRoute({
      method: 'post',
      path: '/agents/{agent_name}/reject',
      tag,
      status: 204,
      summary: 'Send a waiting agent away',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: z.null(),
      handle: async ({ params: { agent_name } }) => {
        office().desk.reject(agent_name);
        return null;
      },
    }),
    defineRoute({
      method: 'post',
      path: '/agents/{agent_name}/revoke',
      tag,
      summary: 'Shut an agent out at once, also from what it does just now',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: agentAnswer,
      handle: async ({ params: { agent_name } }) => view(office().revoke(agent_name)),
    }),
    defineRoute({
      method: 'delete',
      path: '/agents/{agent_name}',
      tag,
      status: 204,
      summary: 'Forget a revoked agent without machines',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: z.null(),
      handle: async ({ params: { agent_name } }) => {
        office().remove(agent_name);
        return null;
      },
    }),
    defineRoute({
      method: 'patch',
      path: '/agents/{agent_name}',
      tag,
      summary: 'Change the data way and the limits of an agent',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: agentAnswer,
      body: z.strictObject({
        data_way: dataWay.optional(),
        rate_bytes: rate.optional(),
        windows: z.array(window).max(24).optional(),
        time_zone: z.string().min(1).max(64).optional(),
      }),
      handle: async ({ params: { agent_name }, body }) =>
        view(
          office().change(agent_name, {
            ...{ dataWay: body.data_way, rateBytes: body.rate_bytes, timeZone: body.time_zone },
            windows: body.windows?.map(({ from, to, rate_bytes }) => ({ from, to, rateBytes: rate_bytes })),
          }),
        ),
    }),
    defineRoute({
      method: 'post',
      path: '/agents/{agent_name}/discover',
      tag,
      summary: 'What an agent could back up',
      access: { role: 'admin', about: 'appliance' },
      params,
      body: z.strictObject({
        kind: z.enum(['image', 'libvirt']).default('image'),
        place: path.default('qemu:///system'),
      }),
      answer: z.object({ machines: z.array(z.record(z.string(), z.unknown())) }),
      handle: async ({ params: { agent_name }, body }) => office().ask(agent_name, 'discover', body),
    }),
  ];
}
