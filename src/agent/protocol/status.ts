import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { SendenseError } from '../../base/sendense-error.ts';
import { unpackError } from './messages.ts';

const CODE = 'sendense-code';
/** Binary, since messages hold any characters. */
const FIELDS = 'sendense-fields-bin';

/** Carries an error of ours beside gRPC's own status. */
export function errorMetadata(error: SendenseError): Metadata {
  const metadata = new Metadata();
  metadata.set(CODE, error.code);
  metadata.set(FIELDS, Buffer.from(JSON.stringify(error.fields)));
  return metadata;
}

/** What a failed call means. @param address for the case that nobody answered */
export function errorOf(error: ServiceError, address: string): SendenseError {
  const [code] = error.metadata?.get(CODE) ?? [];
  const [fields] = error.metadata?.get(FIELDS) ?? [];
  if (typeof code === 'string') return unpackError(code, fields?.toString() ?? '');
  const detail =
    error.code === status.DEADLINE_EXCEEDED ? 'it did not answer in time' : error.details || error.message;
  return new SendenseError('APPLIANCE_UNREACHABLE', { address, detail }, error);
}
