import type { Request, Response } from 'express';
import type { z } from 'zod';
import type { Caller } from './access/caller.ts';
import type { RouteAccess } from './access/route-access.ts';

type Schema = z.ZodType<Record<string, unknown>> | undefined;
type Parsed<S extends Schema> = S extends z.ZodType<infer T> ? T : Record<string, never>;

export interface RouteInput<P extends Schema, Q extends Schema, B extends Schema> {
  readonly params: Parsed<P>;
  readonly query: Parsed<Q>;
  readonly body: Parsed<B>;
  /** Its role and what the request is about are checked; lists show only what it sees. */
  readonly caller: Caller;
  readonly request: Request;
  /** For handlers that stream; they then return `streamed`. */
  readonly response: Response;
}

/** A handler that wrote its answer itself. */
export const streamed = Symbol('streamed');

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** One route: what express serves and what OpenAPI says, from one definition. */
export interface Route {
  readonly method: 'get' | 'post' | 'patch' | 'delete';
  /** As OpenAPI writes it: `/backup/{backup_id}`. */
  readonly path: string;
  readonly summary: string;
  readonly tag: string;
  readonly access: RouteAccess;
  /** Fields of the answer that are told once and stored nowhere: a repeat by Idempotency-Key gets null for them. */
  readonly secretFields?: readonly string[];
  readonly params?: z.ZodType<Record<string, unknown>>;
  readonly query?: z.ZodType<Record<string, unknown>>;
  readonly body?: z.ZodType<Record<string, unknown>>;
  readonly status: number;
  readonly answer: z.ZodType;
  readonly handle: (input: RouteInput<Schema, Schema, Schema>) => Promise<unknown>;
}

/** Gives the handler its types from the schemas. */
export function defineRoute<
  P extends Schema = undefined,
  Q extends Schema = undefined,
  B extends Schema = undefined,
>(definition: {
  readonly method: Route['method'];
  readonly path: string;
  readonly summary: string;
  readonly tag: string;
  readonly access: RouteAccess;
  readonly secretFields?: readonly string[];
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly status?: number;
  readonly answer: z.ZodType;
  readonly handle: (input: RouteInput<P, Q, B>) => Promise<unknown>;
}): Route {
  // the server parses with these very schemas before it calls the handler
  return { status: 200, ...definition } as unknown as Route;
}
