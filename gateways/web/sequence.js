// Which events of each conversation have been seen. Pure book-keeping: no socket, no clock.

/** Live events held back while the events before them are being asked for, per conversation. */
export const HELD_BACK_MAX = 1000;

/** Counts the events of many conversations and says of each new one whether it is next, old, or after a hole. */
export class SequenceBook {
  constructor(seen = {}) {
    this.seen = new Map(Object.entries(seen));
    this.held = new Map();
  }

  /** `{conversation: last seen seq}`, the shape that `have` wants. */
  have() {
    return Object.fromEntries(this.seen);
  }

  /** Seq of the last event seen without a hole, or undefined. */
  last(conversation) {
    return this.seen.get(conversation);
  }

  /** Forgets what was seen and starts at `seq`, for `behind`, `reset` and a fresh list. */
  startAt(conversation, seq) {
    this.seen.set(conversation, seq);
    this.held.delete(conversation);
  }

  /** Raises the mark to a head learnt elsewhere, unless counting has begun already. */
  startUnlessCounting(conversation, seq) {
    if (!this.seen.has(conversation)) this.seen.set(conversation, seq);
  }

  clear() {
    this.seen.clear();
    this.held.clear();
  }

  /** True while a hole of this conversation is open. */
  isWaiting(conversation) {
    return this.held.has(conversation);
  }

  /** Seq of the newest event held back, or the last one seen. */
  newestHeld(conversation) {
    const held = this.held.get(conversation) ?? [];
    return Math.max(this.seen.get(conversation) ?? 0, ...held.map((event) => event.seq));
  }

  /** The line is gone: what was held back will be sent again by the next catching-up. */
  dropHeld() {
    this.held.clear();
  }

  /**
   * A live event: `"next"` (counted, deliver it), `"old"` (a duplicate) or `"hole"` (held back until the events
   * before it are here). The first event of an unknown conversation is where counting begins.
   */
  live(event) {
    const { conversation_id: conversation, seq } = event;
    const last = this.seen.get(conversation);
    if (last !== undefined && seq <= last) return "old";
    if (this.held.has(conversation) || (last !== undefined && seq > last + 1)) {
      this.#hold(conversation, event);
      return "hole";
    }
    this.seen.set(conversation, seq);
    return "next";
  }

  #hold(conversation, event) {
    const held = this.held.get(conversation) ?? [];
    // Beyond the bound the event is dropped: the sync that is under way ends below it, sees it missing, and asks again.
    if (held.length < HELD_BACK_MAX) held.push(event);
    this.held.set(conversation, held);
  }

  /**
   * Events the server sent on request, ascending. They are right as they are: a jump among them is the start of
   * another range, not a hole. Gives back those not yet seen.
   */
  caughtUp(conversation, events) {
    const fresh = [];
    for (const event of events) {
      const last = this.seen.get(conversation) ?? 0;
      if (event.seq <= last) continue;
      this.seen.set(conversation, event.seq);
      fresh.push(event);
    }
    return fresh;
  }

  /** Closes the hole: held events in order, up to the next hole (which stays open and is named by `isWaiting`). */
  release(conversation) {
    const held = this.held.get(conversation) ?? [];
    this.held.delete(conversation);
    return held.sort((a, b) => a.seq - b.seq).filter((event) => this.live(event) === "next");
  }
}
