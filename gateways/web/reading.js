// Read marks: told to the server when the newest message is on the screen of a tab that somebody looks at.

import { ConnectionLost } from "./problem.js";
import { newestSeq } from "./timeline.js";

/** Sends each mark once; marks only ever rise. */
export class Reading {
  #told = new Map();

  constructor({
    store,
    request,
    isLooking = () => document.visibilityState === "visible" && document.hasFocus(),
  }) {
    this.store = store;
    this.request = request;
    this.isLooking = isLooking;
  }

  clear() {
    this.#told.clear();
  }

  /** The end of this conversation is on the screen. */
  async atEnd(id) {
    const { timelines, conversations } = this.store.state;
    const timeline = timelines[id];
    const conversation = conversations[id];
    if (!this.isLooking() || !timeline?.loaded || timeline.has_newer || !conversation || conversation.left)
      return;
    const seq = newestSeq(timeline);
    const isDone =
      seq <= (this.#told.get(id) ?? 0) || (seq <= (conversation.read_seq ?? 0) && !conversation.unread);
    if (seq === 0 || isDone) return;
    this.#told.set(id, seq);
    try {
      await this.request("read", { conversation_id: id, seq });
      this.store.dispatch({ type: "marked_read", id, read_seq: seq, unread: 0 });
    } catch (error) {
      // The mark is not urgent: the next look at the end of this conversation tells it again.
      this.#told.delete(id);
      if (!(error instanceof ConnectionLost) && !error.passing) this.#told.set(id, seq);
    }
  }
}
