/** The other half of deadline.ts, a Worker: waits for the time, then interrupts the thread that runs a guest. */
import { loadNvmm } from "../../../ffi/nvmm/library.ts";
import { interruptThread } from "../../../ffi/nvmm/thread.ts";
import {
  ARMED,
  BY_STOP,
  DEADLINE,
  FIRING,
  IDLE,
  METHOD,
  SEQUENCE,
  STATE,
  TARGET,
  type WatcherStart,
} from "./deadline.ts";

/** Between two signals; see the race in deadline.ts. */
const REPEAT_MS = 1;

declare const self: { onmessage: ((event: { data: WatcherStart }) => void) | null };

self.onmessage = ({ data: { shared, library } }) => {
  const words = new Int32Array(shared);
  const numbers = new Float64Array(shared);
  const stop = loadNvmm([library]).stop;
  for (;;) {
    const sequence = Atomics.load(words, SEQUENCE);
    if (Atomics.load(words, STATE) !== ARMED) {
      Atomics.wait(words, SEQUENCE, sequence);
      continue;
    }
    const left = (numbers[DEADLINE] as number) - performance.timeOrigin - performance.now();
    if (left > 0) {
      Atomics.wait(words, SEQUENCE, sequence, left);
      continue;
    }
    if (Atomics.compareExchange(words, STATE, ARMED, FIRING) !== ARMED) continue;
    const target = numbers[TARGET] as number;
    if (words[METHOD] === BY_STOP) {
      stop?.nvmm_vcpu_stop(target);
      Atomics.store(words, STATE, IDLE);
    } else {
      interruptThread(target);
      Atomics.store(words, STATE, ARMED);
      Atomics.wait(words, SEQUENCE, sequence, REPEAT_MS);
    }
  }
};
