import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { ConnectionLost, Problem } from "../../gateways/web/problem.js";
import { ANSWER_WAIT_MS, OPEN_WAIT_MS, SocketClient } from "../../gateways/web/socket.js";
import { FakeClock, fakeSockets, posted, settle } from "./helpers.mjs";

const WELCOME = {
  op: "welcome",
  user_id: "ana",
  session_id: "s1",
  log_id: "log-1",
  heartbeat_s: 30,
  server_time: "2026-03-01T10:00:00.000Z",
};

let clock;
let Sockets;
let heard;
let client;
let tokens;

beforeEach(() => {
  clock = new FakeClock();
  Sockets = fakeSockets();
  heard = [];
  tokens = [];
  client = new SocketClient({
    url: "ws://server/v1/ws",
    listen: (message) => heard.push(message),
    WebSocket: Sockets,
    clock,
    random: () => 1,
    token: async (options) => {
      tokens.push(options);
      return `token-${tokens.length}`;
    },
  });
});

const statuses = () => heard.filter((message) => message.type === "status").map((message) => message.status);
const seqs = () => heard.filter((message) => message.type === "event").map((message) => message.event.seq);
const live = (seq, conversation = "c1") => ({
  op: "event",
  ...posted(conversation, seq, "bo", `text ${seq}`),
});

async function open(have = {}) {
  for (const [id, seq] of Object.entries(have)) client.book.startAt(id, seq);
  client.connect();
  await settle();
  Sockets.newest.open();
}

async function goOnline(have = {}) {
  await open(have);
  Sockets.newest.say(WELCOME);
  if (Object.keys(have).length > 0) Sockets.newest.say({ op: "events", conversations: {}, complete: true });
}

describe("hello", () => {
  it("says hello first, with the token and the sub-protocol", async () => {
    await open();
    assert.deepEqual(Sockets.newest.protocols, ["minutebook.v1.json"]);
    assert.deepEqual(Sockets.newest.sent, [{ op: "hello", token: "token-1" }]);
  });

  it("names what it has and is online only when the missed events are here", async () => {
    await open({ c1: 7 });
    assert.deepEqual(Sockets.newest.sent[0].have, { c1: 7 });
    Sockets.newest.say(WELCOME);
    assert.equal(client.isOnline, false);
    Sockets.newest.say({
      op: "events",
      conversations: { c1: { events: [posted("c1", 8, "bo", "a")], complete: false } },
      complete: false,
    });
    assert.equal(client.isOnline, false);
    Sockets.newest.say({
      op: "events",
      conversations: { c1: { events: [posted("c1", 9, "bo", "b")], complete: true } },
      complete: true,
    });
    assert.equal(client.isOnline, true);
    assert.deepEqual(seqs(), [8, 9]);
    assert.deepEqual(statuses(), ["connecting", "catching_up", "online"]);
  });

  it("gives up on a server that does not answer", async () => {
    await open();
    await clock.pass(OPEN_WAIT_MS);
    assert.equal(statuses().at(-1), "waiting");
    assert.equal(Sockets.all[0].closedWith, 1000);
  });
});

describe("seq", () => {
  it("delivers in order and drops duplicates", async () => {
    await goOnline();
    for (const seq of [5, 6, 6, 5, 7]) Sockets.newest.say(live(seq));
    assert.deepEqual(seqs(), [5, 6, 7]);
  });

  it("asks sync once for a hole and delivers what came meanwhile after it", async () => {
    await goOnline({ c1: 5 });
    for (const seq of [8, 9]) Sockets.newest.say(live(seq));
    const [sync, ...others] = Sockets.newest.sentOf("sync");
    assert.deepEqual(others, []);
    assert.deepEqual(sync.have, { c1: 5 });
    assert.equal(sync.only, true);
    const events = [6, 7, 8].map((seq) => posted("c1", seq, "bo", "x"));
    Sockets.newest.say({
      op: "events",
      ref: sync.ref,
      conversations: { c1: { events, complete: true, head: 8 } },
      complete: true,
    });
    await settle();
    assert.deepEqual(seqs(), [6, 7, 8, 9]);
    Sockets.newest.say(live(10));
    assert.deepEqual(seqs(), [6, 7, 8, 9, 10]);
  });

  it("goes on asking while the answer is cut", async () => {
    await goOnline({ c1: 5 });
    Sockets.newest.say(live(9));
    const first = Sockets.newest.sentOf("sync")[0];
    Sockets.newest.say({
      op: "events",
      ref: first.ref,
      conversations: { c1: { events: [posted("c1", 6, "bo", "x")], complete: false } },
      complete: false,
    });
    await settle();
    const second = Sockets.newest.sentOf("sync")[1];
    assert.deepEqual(second.have, { c1: 6 });
    Sockets.newest.say({
      op: "events",
      ref: second.ref,
      conversations: { c1: { events: [7, 8].map((seq) => posted("c1", seq, "bo", "x")), complete: true } },
      complete: true,
    });
    await settle();
    assert.deepEqual(seqs(), [6, 7, 8, 9]);
  });

  it("takes a jump in the answer as the start of another range", async () => {
    await goOnline({ c1: 5 });
    Sockets.newest.say(live(20));
    const [sync] = Sockets.newest.sentOf("sync");
    Sockets.newest.say({
      op: "events",
      ref: sync.ref,
      conversations: { c1: { events: [posted("c1", 19, "bo", "x")], first_seq: 19, complete: true } },
      complete: true,
    });
    await settle();
    assert.deepEqual(seqs(), [19, 20]);
  });

  it("goes on when the conversation is left out of the answer", async () => {
    await goOnline({ c1: 5 });
    Sockets.newest.say(live(9));
    Sockets.newest.say({
      op: "events",
      ref: Sockets.newest.sentOf("sync")[0].ref,
      conversations: {},
      complete: true,
    });
    await settle();
    assert.deepEqual(
      heard.filter((message) => message.type === "restart").map((message) => message.head),
      [9],
    );
    Sockets.newest.say(live(10));
    assert.deepEqual(seqs(), [10]);
  });

  it("counts each conversation by itself", async () => {
    await goOnline({ c1: 5 });
    Sockets.newest.say(live(8));
    Sockets.newest.say(live(3, "c2"));
    assert.deepEqual(
      heard
        .filter((message) => message.type === "event")
        .map(({ event }) => [event.conversation_id, event.seq]),
      [["c2", 3]],
    );
  });

  it("starts anew after behind and reset", async () => {
    await open({ c1: 5, c2: 50 });
    Sockets.newest.say(WELCOME);
    Sockets.newest.say({ op: "behind", conversation_id: "c1", have: 5, head: 9000 });
    Sockets.newest.say({ op: "events", conversations: { c2: { reset: true, head: 12 } }, complete: true });
    Sockets.newest.say(live(9001));
    Sockets.newest.say(live(13, "c2"));
    const restarts = heard
      .filter((message) => message.type === "restart")
      .map(({ conversation_id, head }) => [conversation_id, head]);
    assert.deepEqual(restarts, [
      ["c1", 9000],
      ["c2", 12],
    ]);
    assert.deepEqual(seqs(), [9001, 13]);
  });
});

describe("coming back", () => {
  it("waits longer each time, at most half a minute, and begins again once welcome", async () => {
    const waits = [];
    client.connect();
    for (let attempt = 0; attempt < 9; attempt += 1) {
      await settle();
      Sockets.newest.drop(1006);
      waits.push(heard.at(-1).retry_at - clock.now());
      await clock.pass(waits.at(-1));
    }
    assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    await settle();
    Sockets.newest.open();
    Sockets.newest.say(WELCOME);
    Sockets.newest.drop(1006);
    assert.equal(heard.at(-1).retry_at - clock.now(), 500);
  });

  it("names the newest seqs after a slow-reader close", async () => {
    await goOnline({ c1: 5 });
    Sockets.newest.say(live(6));
    Sockets.newest.drop(4408);
    await clock.pass(500);
    Sockets.newest.open();
    assert.deepEqual(Sockets.newest.sent[0].have, { c1: 6 });
  });

  it("keeps the hint of a server that drains", async () => {
    await goOnline();
    Sockets.newest.say({ op: "reconnect", after_ms: 4000 });
    assert.equal(heard.at(-1).retry_at - clock.now(), 4500);
    assert.equal(Sockets.all[0].closedWith, 1000);
  });

  it("asks for another token when the server refused it", async () => {
    await open();
    Sockets.newest.drop(4401);
    await clock.pass(500);
    assert.deepEqual(tokens, [{ refused: false }, { refused: true }]);
  });

  for (const [code, reason] of [
    [4403, "session_ended"],
    [4409, "replaced"],
  ]) {
    it(`does not come back by itself after ${code}`, async () => {
      await goOnline();
      Sockets.newest.drop(code);
      await clock.pass(3_600_000);
      assert.equal(Sockets.all.length, 1);
      assert.deepEqual(heard.at(-1), { type: "ended", reason });
    });
  }

  it("ends when the session cannot be renewed", async () => {
    client.token = async () => {
      throw new Problem({ code: "unauthenticated", status: 401 });
    };
    client.connect();
    await settle();
    assert.deepEqual(heard.at(-1), { type: "ended", reason: "unauthenticated" });
    assert.equal(Sockets.all.length, 0);
  });

  it("drops everything when the log is another one", async () => {
    await goOnline({ c1: 5 });
    Sockets.newest.drop(1012);
    await clock.pass(500);
    Sockets.newest.open();
    Sockets.newest.say({ ...WELCOME, log_id: "log-2" });
    assert.equal(
      heard.some((message) => message.type === "log_changed"),
      true,
    );
    await clock.pass(500);
    Sockets.newest.open();
    assert.equal(Sockets.newest.sent[0].have, undefined);
    Sockets.newest.say({ ...WELCOME, log_id: "log-2" });
    assert.equal(client.isOnline, true);
  });

  it("forgets what it has when the server cannot read it", async () => {
    await open({ c1: 5 });
    Sockets.newest.drop(4400, "bad have");
    assert.deepEqual(client.book.have(), {});
    await clock.pass(500);
    assert.equal(Sockets.all.length, 2);
  });

  it("leaves a server that fell silent", async () => {
    await goOnline();
    await clock.pass(30_000);
    assert.equal(Sockets.newest.sentOf("ping").length, 1);
    Sockets.newest.say({ op: "pong" });
    await clock.pass(60_000);
    assert.equal(client.isOnline, true);
    await clock.pass(30_000);
    assert.equal(statuses().includes("waiting"), true);
  });

  it("hears nothing from a socket it has left", async () => {
    await goOnline();
    const old = Sockets.newest;
    client.stop();
    old.say(live(5));
    old.drop(1006);
    assert.deepEqual(seqs(), []);
    assert.equal(statuses().at(-1), "stopped");
  });

  it("waits for the network when the browser is offline", async () => {
    await goOnline();
    client.pause();
    await clock.pass(3_600_000);
    assert.equal(Sockets.all.length, 1);
    client.connect();
    await settle();
    assert.equal(Sockets.all.length, 2);
  });
});

describe("requests", () => {
  it("resolves with the ack of its own ref", async () => {
    await goOnline();
    const first = client.request("send", { client_msg_id: "a" });
    const second = client.request("send", { client_msg_id: "b" });
    const [a, b] = Sockets.newest.sentOf("send");
    Sockets.newest.say({ op: "ack", ref: b.ref, seq: 2 });
    Sockets.newest.say({ op: "ack", ref: a.ref, seq: 1 });
    assert.equal((await first).seq, 1);
    assert.equal((await second).seq, 2);
  });

  it("rejects with the server's problem", async () => {
    await goOnline();
    const answer = client.request("edit", {});
    Sockets.newest.say({
      op: "error",
      ref: Sockets.newest.sentOf("edit")[0].ref,
      problem: { code: "forbidden", status: 403, detail: "Too late." },
    });
    await assert.rejects(
      answer,
      (error) => error instanceof Problem && error.code === "forbidden" && error.message === "Too late.",
    );
  });

  it("rejects when the line goes away, and when there is none", async () => {
    await goOnline();
    const answer = client.request("send", {});
    Sockets.newest.drop(1006);
    await assert.rejects(answer, ConnectionLost);
    await assert.rejects(client.request("send", {}), ConnectionLost);
  });

  it("gives up the line when an answer does not come", async () => {
    await goOnline();
    const answer = assert.rejects(client.request("send", {}), ConnectionLost);
    await clock.pass(ANSWER_WAIT_MS);
    await answer;
    assert.equal(Sockets.all[0].closedWith, 1000);
  });

  it("blames the frame, not the line, when it was too large", async () => {
    await goOnline();
    const answer = client.request("send", {});
    Sockets.newest.drop(1009);
    await assert.rejects(answer, (error) => error.code === "too_large");
  });
});
