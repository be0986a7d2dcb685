import { fileURLToPath } from 'node:url';
import {
  type GrpcObject,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { packageFile } from '../../base/own-files.ts';

/** The largest message that is taken, bytes; an answer to `discover` of a big host is some 100 KiB. */
export const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;

const protoFile = fileURLToPath(packageFile('proto/agent.proto'));

/** 64-bit numbers become JavaScript's; who reads them checks that they are safe. */
const definition = loadSync(protoFile, {
  keepCase: false,
  longs: Number,
  bytes: Buffer,
  defaults: true,
  oneofs: true,
});

const root = loadPackageDefinition(definition);

function clientOf(name: string): ServiceClientConstructor {
  let found: GrpcObject | GrpcObject[string] = root;
  for (const part of `sendense.agent.v1.${name}`.split('.'))
    found = (found as GrpcObject)[part] as GrpcObject[string];
  return found as ServiceClientConstructor;
}

export const EnrolmentClient = clientOf('Enrolment');
export const ControlClient = clientOf('Control');
export const enrolmentService: ServiceDefinition = EnrolmentClient.service;
export const controlService: ServiceDefinition = ControlClient.service;
