// Sends what waits in the outbox: in order within a conversation, each with its own id until the server answers.

import { freshId } from "./ids.js";
import { ConnectionLost, Problem } from "./problem.js";

/** Tries of one message that the server puts off, before it is shown as failed. */
export const TRIES_MAX = 5;
const WAIT_MS = 1000;
const KEPT_KEY = "minutebook.outbox";
export const CONTENT_BYTES_MAX = 16 * 1024;

const contentBytes = (content) => new TextEncoder().encode(JSON.stringify(content)).length;

/** The optimistic sender. A line that breaks leaves messages as they are; `pump` on the next line repeats the same ids. */
export class Sender {
  #running = new Set();
  #user = null;

  constructor({
    store,
    request,
    isOnline,
    keep = sessionStorage,
    later = (run, ms) => setTimeout(run, ms),
    now = () => new Date(),
  }) {
    this.store = store;
    this.request = request;
    this.isOnline = isOnline;
    this.keep = keep;
    this.later = later;
    this.now = now;
    store.subscribe(() => this.#remember());
    this.remembered = null;
  }

  /** Takes up what an earlier page of this tab and user had not got acknowledged. */
  restore(user_id) {
    const text = this.keep.getItem(KEPT_KEY);
    const kept = text ? JSON.parse(text) : null;
    this.#user = user_id;
    if (kept?.user_id === user_id) this.store.dispatch({ type: "outbox_restored", entries: kept.entries });
  }

  #remember() {
    const { outbox, me } = this.store.state;
    // Nothing is written before it has been restored: an outbox that is still empty must not wipe the one kept.
    if (outbox === this.remembered || me === null || me.user_id !== this.#user) return;
    this.remembered = outbox;
    const entries = outbox.filter((entry) => entry.state !== "sent");
    if (entries.length === 0) this.keep.removeItem(KEPT_KEY);
    else this.keep.setItem(KEPT_KEY, JSON.stringify({ user_id: me.user_id, entries }));
  }

  /** Puts a message into the outbox and starts sending. */
  send(conversation_id, content, { reply_to, mentions } = {}) {
    const entry = {
      client_msg_id: freshId(),
      conversation_id,
      content,
      at: this.now().toISOString(),
      ...(reply_to && { reply_to }),
      ...(mentions?.length && { mentions }),
    };
    this.store.dispatch({ type: "sending", entry });
    if (contentBytes(content) > CONTENT_BYTES_MAX)
      return this.#fail(entry, "This message is longer than 16 KiB.");
    return this.#drain(conversation_id);
  }

  /** Tries a failed message again, with the same id: if it did arrive, it is not sent twice. */
  retry(client_msg_id) {
    const entry = this.store.state.outbox.find((one) => one.client_msg_id === client_msg_id);
    if (entry === undefined) return;
    this.store.dispatch({ type: "send_state", client_msg_id, fields: { state: "sending", detail: null } });
    this.#drain(entry.conversation_id);
  }

  discard(client_msg_id) {
    this.store.dispatch({ type: "send_dropped", client_msg_id });
  }

  /** Starts sending everything that waits; call it whenever the line is there again. */
  pump() {
    const waiting = this.store.state.outbox.filter((entry) => entry.state === "sending");
    for (const conversation of new Set(waiting.map((entry) => entry.conversation_id)))
      this.#drain(conversation);
  }

  #next(conversation) {
    return this.store.state.outbox.find(
      (entry) => entry.conversation_id === conversation && entry.state === "sending",
    );
  }

  async #drain(conversation) {
    if (this.#running.has(conversation)) return;
    this.#running.add(conversation);
    try {
      let entry = this.#next(conversation);
      while (entry !== undefined && this.isOnline()) {
        if (!(await this.#sendOne(entry))) break;
        entry = this.#next(conversation);
      }
    } finally {
      this.#running.delete(conversation);
    }
  }

  /** False when the line is gone: the rest waits for the next one. */
  async #sendOne(entry) {
    const { client_msg_id, conversation_id, content, reply_to, mentions } = entry;
    const fields = {
      conversation_id,
      client_msg_id,
      content,
      ...(reply_to && { reply_to }),
      ...(mentions && { mentions }),
    };
    for (let attempt = 1; ; attempt += 1) {
      try {
        const ack = await this.request("send", fields);
        this.store.dispatch({ type: "send_state", client_msg_id, fields: { state: "sent", seq: ack.seq } });
        return true;
      } catch (error) {
        if (error instanceof ConnectionLost) return false;
        if (!(error instanceof Problem)) throw error;
        if (!error.passing || attempt >= TRIES_MAX) {
          this.#fail(entry, error.sentence);
          return true;
        }
        await this.#pause(error.retry_after_ms ?? WAIT_MS * attempt);
      }
    }
  }

  #pause(wait_ms) {
    return new Promise((resolve) => this.later(resolve, wait_ms));
  }

  #fail({ client_msg_id }, detail) {
    this.store.dispatch({ type: "send_state", client_msg_id, fields: { state: "failed", detail } });
  }
}
