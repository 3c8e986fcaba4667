import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { History } from "../../gateways/web/history.js";
import { Reading } from "../../gateways/web/reading.js";
import { createStore } from "../../gateways/web/store.js";

/** A conversation of 400 events: every tenth is a notice, the others are messages. */
const HEAD = 400;
const isNotice = (seq) => seq % 10 === 1;
const row = (seq) => ({
  seq,
  actor: seq % 2 ? "bo" : "ana",
  at: "2026-03-01T10:00:00.000Z",
  content: { kind: "text", text: `t${seq}` },
  reactions: [],
});
const allRows = Array.from({ length: HEAD }, (_, index) => index + 1)
  .filter((seq) => !isNotice(seq))
  .map(row);
const allEvents = Array.from({ length: HEAD }, (_, index) => ({
  seq: index + 1,
  actor: "bo",
  at: "2026-03-01T10:00:00.000Z",
  type: isNotice(index + 1) ? "member_left" : "message_posted",
  data: { user_id: "bo" },
}));

const api = {
  async messages(id, { before, after, around, limit = 50 }) {
    if (around) return { rows: allRows.filter((one) => Math.abs(one.seq - around) <= limit / 2), next: null };
    const rows = allRows.filter(
      (one) => (before ? one.seq < before : true) && (after ? one.seq > after : true),
    );
    const page = after ? rows.slice(0, limit) : rows.slice(-limit);
    return { rows: page, next: rows.length > limit ? "more" : null };
  },
  async events(id, { after, limit = 200 }) {
    const rows = allEvents.filter((one) => one.seq > after);
    return { rows: rows.slice(0, limit), next: rows.length > limit ? "more" : null };
  },
};

let store;
let history;

beforeEach(() => {
  store = createStore();
  store.dispatch({ type: "signed_in", me: { user_id: "ana", name: "Ana" } });
  const last_message = allRows.at(-1);
  store.dispatch({
    type: "inbox_loaded",
    rows: [
      {
        conversation_id: "c1",
        kind: "group",
        name: "Crew",
        first_seq: 1,
        head: HEAD,
        unread: 3,
        read_seq: 2,
        last_message,
      },
    ],
  });
  history = new History({ store, api, learnNames: () => {} });
});

const timeline = () => store.state.timelines.c1;
const dense = (low, high) => Array.from({ length: high - low + 1 }, (_, index) => low + index);

describe("history", () => {
  it("reads back to the beginning with nothing missing and nothing twice", async () => {
    await history.newest("c1");
    assert.equal(timeline().order.at(-1), HEAD);
    for (let page = 0; page < 20 && timeline().has_older; page += 1) await history.older("c1");
    assert.deepEqual(timeline().order, dense(1, HEAD));
    assert.equal(history.older("c1"), undefined);
  });

  it("reads forward again from the middle", async () => {
    await history.around("c1", 100);
    assert.equal(timeline().has_newer, true);
    for (let page = 0; page < 20 && timeline().has_newer; page += 1) await history.newer("c1");
    const { order } = timeline();
    assert.deepEqual(order, dense(order[0], HEAD));
  });

  it("loads one page at a time", async () => {
    let asked = 0;
    const counting = new History({
      store,
      api: {
        ...api,
        messages: (...all) => {
          asked += 1;
          return api.messages(...all);
        },
      },
      learnNames: () => {},
    });
    await Promise.all([counting.newest("c1"), counting.newest("c1")]);
    assert.equal(asked, 1);
  });

  it("says why a page did not come", async () => {
    const failing = new History({
      store,
      api: {
        ...api,
        messages: async () => {
          throw new Error("Away.");
        },
      },
      learnNames: () => {},
    });
    await failing.newest("c1");
    assert.equal(timeline().error, "Away.");
    assert.equal(timeline().loading, false);
  });
});

describe("read marks", () => {
  let asked;
  let isLooking;
  let reading;

  beforeEach(async () => {
    asked = [];
    isLooking = true;
    reading = new Reading({
      store,
      request: async (op, fields) => void asked.push({ op, ...fields }),
      isLooking: () => isLooking,
    });
    await history.newest("c1");
  });

  it("are told once, for what has been seen", async () => {
    await reading.atEnd("c1");
    await reading.atEnd("c1");
    assert.deepEqual(asked, [{ op: "read", conversation_id: "c1", seq: HEAD }]);
    assert.equal(store.state.conversations.c1.unread, 0);
  });

  it("are not told of a tab that nobody looks at, nor in the middle of the history", async () => {
    isLooking = false;
    await reading.atEnd("c1");
    isLooking = true;
    await history.around("c1", 100);
    await reading.atEnd("c1");
    assert.deepEqual(asked, []);
  });
});
