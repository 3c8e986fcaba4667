// How long to wait before the next try.

export const FIRST_WAIT_MS = 500;
export const LONGEST_WAIT_MS = 30_000;

/**
 * Doubles from half a second to half a minute, then takes between half and all of it at random, so that the tabs
 * which lost the same server do not come back in the same instant. `attempt` counts from 0.
 */
export function waitBeforeAttempt_ms(attempt, random) {
  const full = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempt, 16));
  return Math.round(full * (0.5 + random() / 2));
}
