import type { BootCondition, BootExpectation, BootOutcome } from './boot-request.ts';
import { linePattern } from './line-pattern.ts';
import { endingOf, hasHandedOver, isLoginPrompt } from './telling-lines.ts';

/** When nothing is asked for: a picture that stays so long, since a slow start stands still for a while too. */
const DEFAULT_STABLE_S = 30;
/** A machine that restarts more often will go on with it; once or twice is what updates and relabelling do. */
const MAX_RESTARTS = 4;

/** What is known of a machine that starts, and whether that decides it. */
export class BootState {
  readonly #wanted: ReadonlySet<BootCondition>;
  readonly #isAnyEnough: boolean;
  readonly #matches: (line: string) => boolean;
  readonly #stableMs: number;
  readonly #timeoutMs: number;
  readonly #met = new Map<BootCondition, number>();
  #isHandedOver = false;
  #startedAt = 0;
  #restarts = 0;
  #failure: string | null = null;
  #decidedAtMs: number | null = null;

  /** @throws REQUEST_INVALID */
  constructor({ serial, agent, screenStableS, timeoutMs }: BootExpectation) {
    this.#isAnyEnough = serial === null && !agent && screenStableS === null;
    const wanted: BootCondition[] = this.#isAnyEnough ? ['serial', 'agent', 'screen'] : [];
    if (serial !== null) wanted.push('serial');
    if (agent) wanted.push('agent');
    if (screenStableS !== null) wanted.push('screen');
    this.#wanted = new Set(wanted);
    this.#matches = serial === null ? isLoginPrompt : linePattern(serial);
    this.#stableMs = (screenStableS ?? DEFAULT_STABLE_S) * 1000;
    this.#timeoutMs = timeoutMs;
  }

  start(nowMs: number): void {
    this.#startedAt = nowMs;
  }

  elapsedMs(): number {
    return Date.now() - this.#startedAt;
  }

  get isDecided(): boolean {
    return this.#decidedAtMs !== null;
  }

  meet(condition: BootCondition): void {
    if (!this.#wanted.has(condition) || this.#met.has(condition) || this.isDecided) return;
    this.#met.set(condition, this.elapsedMs());
    if (this.#isAnyEnough || this.#met.size === this.#wanted.size) this.#decidedAtMs = this.elapsedMs();
  }

  fail(reason: string): void {
    if (this.isDecided) return;
    this.#failure = reason;
    this.#decidedAtMs = this.elapsedMs();
  }

  /** The UEFI firmware said on the console that it runs what is on a disk. */
  get isHandedOver(): boolean {
    return this.#isHandedOver;
  }

  sawLine(line: string): void {
    this.#isHandedOver ||= hasHandedOver(line);
    if (this.#wanted.has('serial') && this.#matches(line)) this.meet('serial');
    const ending = endingOf(line);
    if (ending !== null) this.fail(ending);
  }

  sawPicture(stableMs: number): void {
    if (stableMs >= this.#stableMs) this.meet('screen');
  }

  /** Events of QEMU's monitor. */
  sawEvent(event: string, data: Readonly<Record<string, unknown>>): void {
    // a kernel without a serial console tells it this way; with one, its own words come first and say more
    if (event === 'GUEST_PANICKED') setTimeout(() => this.fail("the guest's kernel panicked"), 500).unref();
    if (event === 'SHUTDOWN' && data['guest'] === true) this.fail('it switched itself off');
    if (event === 'RESET' && data['guest'] === true) {
      this.#restarts += 1;
      if (this.#restarts > MAX_RESTARTS) this.fail(`it restarted itself ${this.#restarts} times`);
    }
  }

  checkTime(): void {
    if (this.elapsedMs() < this.#timeoutMs) return;
    const missing = [...this.#wanted].filter((condition) => !this.#met.has(condition));
    const whats = missing.map((condition) => texts[condition]);
    const seconds = Math.round(this.#timeoutMs / 1000);
    this.fail(`${whats.join(this.#isAnyEnough ? ' nor ' : ' and ')} did not come within ${seconds} s`);
  }

  verdict(): Pick<BootOutcome, 'outcome' | 'reason' | 'met' | 'tookMs' | 'restarts'> {
    const met = [...this.#met].map(([condition, afterMs]) => ({ condition, afterMs }));
    const list = met.map(({ condition }) => texts[condition]).join(' and ');
    return {
      outcome: this.#failure === null ? 'passed' : 'failed',
      reason: this.#failure ?? `${list} came`,
      met,
      tookMs: this.#decidedAtMs ?? this.elapsedMs(),
      restarts: this.#restarts,
    };
  }
}

const texts: Readonly<Record<BootCondition, string>> = {
  serial: 'the line on the serial console',
  agent: 'the answer of the guest agent',
  screen: 'a picture that stays',
};
