// Fetches pages of a conversation: the newest, older ones, those around a message; with the notices between the messages.

import { newestSeq, NOTICE_TYPES, oldestSeq } from "./timeline.js";

/** Pages of events read to find the notices between the messages of one page. */
const NOTICE_PAGES_MAX = 3;
/** Empty pages followed before the reader has to scroll again. */
const EMPTY_PAGES_MAX = 5;

/** Loads pages into the store; one load at a time for each conversation. */
export class History {
  #loading = new Set();

  constructor({ store, api, learnNames }) {
    this.store = store;
    this.api = api;
    this.learnNames = learnNames;
  }

  #timeline(id) {
    return this.store.state.timelines[id];
  }

  /** The newest page, instead of whatever window there is. */
  newest(id) {
    return this.#load(id, async () => {
      const { rows, next } = await this.#rows(id, {});
      return { place: "replace", rows, has_older: next !== null, has_newer: false, to: Infinity };
    });
  }

  /** The page before the window. */
  older(id) {
    const timeline = this.#timeline(id);
    if (!timeline?.loaded || !timeline.has_older) return undefined;
    const before = oldestSeq(timeline);
    return this.#load(id, async () => {
      const { rows, next } = await this.#rows(id, { before });
      return { place: "older", rows, has_older: next !== null, to: before };
    });
  }

  /** The page after the window, when the window does not reach the head. */
  newer(id) {
    const timeline = this.#timeline(id);
    if (!timeline?.loaded || !timeline.has_newer) return undefined;
    const after = newestSeq(timeline);
    return this.#load(id, async () => {
      const { rows, next } = await this.#rows(id, { after });
      return {
        place: "newer",
        rows,
        has_newer: next !== null,
        from: after,
        to: next === null ? Infinity : rows.at(-1)?.seq,
      };
    });
  }

  /** A fresh window around one message. */
  around(id, seq) {
    return this.#load(id, async () => {
      const { rows } = await this.api.messages(id, { around: seq });
      const last = this.store.state.conversations[id]?.last_message?.seq ?? 0;
      const has_newer = (rows.at(-1)?.seq ?? 0) < last;
      return {
        place: "replace",
        rows,
        has_older: rows.length > 0,
        has_newer,
        to: has_newer ? rows.at(-1)?.seq : Infinity,
      };
    });
  }

  /** One row again, for what events alone cannot tell (who reacted beyond the first ten). */
  async row(id, seq) {
    this.store.dispatch({ type: "row_loaded", id, row: await this.api.message(id, seq) });
  }

  async #rows(id, range) {
    let page = await this.api.messages(id, range);
    for (let tries = 0; page.rows.length === 0 && page.next !== null && tries < EMPTY_PAGES_MAX; tries += 1) {
      page = await this.api.messages(id, { cursor: page.next });
    }
    return page;
  }

  async #load(id, fetchPage) {
    if (this.#loading.has(id)) return;
    this.#loading.add(id);
    this.store.dispatch({ type: "page_loading", id });
    try {
      const { from, to, ...page } = await fetchPage();
      const notices = await this.#notices(id, page, from, to);
      this.store.dispatch({ type: "page_loaded", id, page: { ...page, notices } });
      this.learnNames([...page.rows.map((row) => row.actor), ...notices.flatMap(peopleOf)]);
    } catch (error) {
      this.store.dispatch({ type: "page_failed", id, detail: error.message });
    } finally {
      this.#loading.delete(id);
    }
  }

  /** Notices lie in the holes between messages; a page without holes has none and costs no call. */
  async #notices(id, { rows, has_older, place }, from, to) {
    const { first_seq = 1, head = 0 } = this.store.state.conversations[id] ?? {};
    const low =
      from ??
      (has_older || place === "newer"
        ? (rows[0]?.seq ?? 0) - 1
        : Math.min(first_seq, rows[0]?.seq ?? first_seq) - 1);
    const high = to === Infinity ? head : (to ?? 0) - 1;
    if (high - low <= rows.length) return [];
    const found = [];
    let after = Math.max(low, 0);
    for (let page = 0; page < NOTICE_PAGES_MAX; page += 1) {
      const events = await this.api.events(id, { after });
      found.push(
        ...events.rows.filter((event) => event.seq <= Math.max(high, to === Infinity ? event.seq : 0)),
      );
      const last = events.rows.at(-1)?.seq;
      if (events.next === null || last === undefined || last >= high) break;
      after = last;
    }
    return found
      .filter((event) => NOTICE_TYPES.has(event.type))
      .map((event) => ({ conversation_id: id, ...event }));
  }
}

/** The people that an event names. */
export function peopleOf({ actor, data = {} }) {
  return [actor, data.user_id, data.from, data.to, ...(data.users ?? [])].filter(Boolean);
}
