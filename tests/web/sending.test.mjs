import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { ConnectionLost, Problem } from "../../gateways/web/problem.js";
import { Sender, TRIES_MAX } from "../../gateways/web/sending.js";
import { createStore } from "../../gateways/web/store.js";
import { FakeClock, fakeStorage, settle } from "./helpers.mjs";

const text = (words) => ({ kind: "text", text: words });

let clock;
let store;
let keep;
let isOnline;
let asked;
let sender;

beforeEach(() => {
  clock = new FakeClock();
  store = createStore();
  store.dispatch({ type: "signed_in", me: { user_id: "ana", name: "Ana" } });
  keep = fakeStorage();
  isOnline = true;
  asked = [];
  sender = makeSender(store);
  sender.restore("ana");
});

/** A page that is loaded again: the sender is there before anybody is signed in, as in the real one. */
function reloadAs(user) {
  const next = createStore();
  const again = makeSender(next);
  next.dispatch({ type: "signed_in", me: { user_id: user, name: user } });
  again.restore(user);
  return next;
}

function makeSender(forStore) {
  const request = (op, fields) =>
    new Promise((resolve, reject) => asked.push({ op, fields, resolve, reject }));
  return new Sender({
    store: forStore,
    request,
    isOnline: () => isOnline,
    keep,
    later: clock.later,
    now: () => new Date(0),
  });
}

const states = () => store.state.outbox.map((entry) => entry.state);

describe("the sender", () => {
  it("sends one after the other within a conversation, and conversations side by side", async () => {
    sender.send("c1", text("one"));
    sender.send("c1", text("two"));
    sender.send("c2", text("three"));
    assert.deepEqual(
      asked.map(({ fields }) => fields.content.text),
      ["one", "three"],
    );
    asked[0].resolve({ seq: 1 });
    await settle();
    assert.deepEqual(
      asked.map(({ fields }) => fields.content.text),
      ["one", "three", "two"],
    );
    assert.deepEqual(states(), ["sent", "sending", "sending"]);
  });

  it("repeats the same id after the line was lost", async () => {
    sender.send("c1", text("one"), { reply_to: 3, mentions: ["bo"] });
    isOnline = false;
    asked[0].reject(new ConnectionLost());
    await settle();
    assert.deepEqual(states(), ["sending"]);
    isOnline = true;
    sender.pump();
    assert.deepEqual(asked[1].fields, asked[0].fields);
    assert.deepEqual([asked[1].fields.reply_to, asked[1].fields.mentions], [3, ["bo"]]);
  });

  it("waits offline without asking", () => {
    isOnline = false;
    sender.send("c1", text("one"));
    assert.equal(asked.length, 0);
    assert.deepEqual(states(), ["sending"]);
  });

  it("shows a refusal with its reason and goes on with the next", async () => {
    sender.send("c1", text("one"));
    sender.send("c1", text("two"));
    asked[0].reject(new Problem({ code: "forbidden", status: 403, detail: "You are muted." }));
    await settle();
    assert.equal(store.state.outbox[0].detail, "You are muted.");
    assert.deepEqual(states(), ["failed", "sending"]);
    assert.equal(asked[1].fields.content.text, "two");
  });

  it("waits as long as an overloaded server asks, so many times", async () => {
    sender.send("c1", text("one"));
    for (let attempt = 0; attempt < TRIES_MAX; attempt += 1) {
      assert.equal(asked.length, attempt + 1);
      asked[attempt].reject(
        new Problem({ code: "overloaded", status: 503, detail: "Busy.", retry_after_ms: 700 }),
      );
      await settle();
      await clock.pass(699);
      assert.equal(asked.length, attempt + 1);
      await clock.pass(1);
    }
    assert.deepEqual(states(), ["failed"]);
    assert.equal(new Set(asked.map(({ fields }) => fields.client_msg_id)).size, 1);
  });

  it("tries a failed message again with the same id, or lets it go", async () => {
    sender.send("c1", text("one"));
    asked[0].reject(new Problem({ code: "forbidden", status: 403 }));
    await settle();
    const { client_msg_id } = store.state.outbox[0];
    sender.retry(client_msg_id);
    assert.equal(asked[1].fields.client_msg_id, client_msg_id);
    sender.discard(client_msg_id);
    assert.deepEqual(store.state.outbox, []);
  });

  it("does not send what no server takes", () => {
    sender.send("c1", text("€".repeat(6000)));
    assert.equal(asked.length, 0);
    assert.deepEqual(states(), ["failed"]);
  });

  it("takes up what an earlier page left, for the same user only", () => {
    isOnline = false;
    sender.send("c1", text("one"));
    assert.deepEqual(reloadAs("ana").state.outbox, store.state.outbox);
    assert.deepEqual(reloadAs("bo").state.outbox, []);
  });
});
