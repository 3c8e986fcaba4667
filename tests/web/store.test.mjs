import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { createStore, INITIAL, reduce, TOASTS_MAX, TYPING_MS } from "../../gateways/web/store.js";
import { WINDOW_ROWS_MAX } from "../../gateways/web/timeline.js";
import { inOrder, titleOf } from "../../gateways/web/inbox.js";
import { posted } from "./helpers.mjs";

const GROUP = {
  conversation_id: "c1",
  kind: "group",
  name: "Crew",
  first_seq: 1,
  head: 3,
  unread: 0,
  mentions: 0,
  read_seq: 3,
  last_message: null,
};
const event = (seq, type, data, actor = "bo") => ({
  type: "event",
  event: {
    conversation_id: "c1",
    seq,
    type,
    actor,
    at: `2026-03-01T11:00:00.${String(seq).padStart(3, "0")}Z`,
    data,
  },
});
const post = (seq, actor, text = "hi", more = {}) => ({
  type: "event",
  event: posted("c1", seq, actor, text, more),
});

function run(...happenings) {
  return [
    { type: "signed_in", me: { user_id: "ana", name: "Ana" } },
    { type: "inbox_loaded", rows: [GROUP] },
    ...happenings,
  ].reduce(reduce, INITIAL);
}

const page = (rows, more = {}) => ({
  type: "page_loaded",
  id: "c1",
  page: { place: "replace", rows, has_older: false, has_newer: false, ...more },
});
const row = (seq, more = {}) => ({
  seq,
  actor: "bo",
  at: "2026-03-01T10:00:00.000Z",
  content: { kind: "text", text: `t${seq}` },
  reactions: [],
  ...more,
});
const rowAt = (state, seq) => state.timelines.c1.rows[seq];

describe("messages", () => {
  it("go into the window once, in order of seq", () => {
    const state = run(page([row(2)]), post(4, "bo"), post(5, "ana"), post(4, "bo"));
    assert.deepEqual(state.timelines.c1.order, [2, 4, 5]);
  });

  it("stay out of a window that does not reach the head", () => {
    const state = run(page([row(2)], { has_newer: true }), post(9, "bo"));
    assert.deepEqual(state.timelines.c1.order, [2]);
    assert.equal(state.conversations.c1.last_message.seq, 9);
  });

  it("never fill more than the window", () => {
    const rows = Array.from({ length: WINDOW_ROWS_MAX }, (_, index) => row(index + 100));
    const state = run(page(rows), post(WINDOW_ROWS_MAX + 100, "bo"));
    assert.equal(state.timelines.c1.order.length, WINDOW_ROWS_MAX);
    assert.equal(state.timelines.c1.order[0], 101);
    assert.equal(state.timelines.c1.has_older, true);
    const back = reduce(state, {
      type: "page_loaded",
      id: "c1",
      page: { place: "older", rows: [row(50), row(51)], has_older: true },
    });
    assert.equal(back.timelines.c1.order[0], 50);
    assert.equal(back.timelines.c1.has_newer, true);
    assert.equal(Object.keys(back.timelines.c1.rows).length, WINDOW_ROWS_MAX);
  });

  it("show their newest text, and nothing once recalled", () => {
    const edit = event(6, "message_edited", { target: 2, content: { kind: "text", text: "new" } });
    const edited = run(page([row(2)]), edit);
    assert.equal(rowAt(edited, 2).content.text, "new");
    assert.ok(rowAt(edited, 2).edited_at);
    const recalled = [event(7, "message_recalled", { target: 2 }), edit].reduce(reduce, edited);
    assert.equal(rowAt(recalled, 2).content, null);
    assert.equal(rowAt(recalled, 2).recalled, true);
  });

  it("keep a newer edit that the page already brought", () => {
    const state = run(
      page([row(2, { edited_at: "2026-03-02T00:00:00.000Z" })]),
      event(6, "message_edited", { target: 2, content: { kind: "text", text: "old" } }),
    );
    assert.equal(rowAt(state, 2).content.text, "t2");
  });

  it("leave the other rows as they were, so that they are not drawn again", () => {
    const before = run(page([row(1), row(2)]));
    const after = reduce(before, event(6, "message_pinned", { target: 2 }, "ana"));
    assert.equal(rowAt(after, 1), rowAt(before, 1));
    assert.equal(rowAt(after, 2).pinned, true);
    assert.equal(after.timelines.c1.notices[6].type, "message_pinned");
  });
});

describe("reactions", () => {
  const add = (seq, actor) => event(seq, "reaction_added", { target: 2, emoji: "👍" }, actor);
  const remove = (seq, actor) => event(seq, "reaction_removed", { target: 2, emoji: "👍" }, actor);

  it("count people once and know one's own", () => {
    const state = run(page([row(2)]), add(6, "bo"), add(7, "ana"), add(8, "ana"));
    assert.deepEqual(rowAt(state, 2).reactions, [
      { emoji: "👍", count: 2, users: ["bo", "ana"], mine: true },
    ]);
  });

  it("go away with the last one, and not twice", () => {
    const state = run(page([row(2)]), add(6, "bo"), add(7, "ana"), remove(8, "ana"), remove(8, "ana"));
    assert.deepEqual(rowAt(state, 2).reactions, [{ emoji: "👍", count: 1, users: ["bo"], mine: false }]);
    assert.deepEqual(rowAt(reduce(state, remove(9, "bo")), 2).reactions, []);
  });
});

describe("the list", () => {
  it("counts what others wrote and mentions of oneself", () => {
    const state = run(
      post(4, "bo"),
      post(5, "bo", "@ana", { mentions: ["ana"] }),
      post(6, "bo", "@all", { mentions: ["all"] }),
    );
    const { unread, mentions, head } = state.conversations.c1;
    assert.deepEqual({ unread, mentions, head }, { unread: 3, mentions: 2, head: 6 });
  });

  it("counts nothing twice and takes sending as reading", () => {
    const state = run(post(4, "bo"), post(4, "bo"), post(5, "ana"));
    const { unread, read_seq } = state.conversations.c1;
    assert.deepEqual({ unread, read_seq }, { unread: 0, read_seq: 5 });
  });

  it("believes the server's numbers, but never takes a read mark back", () => {
    const state = run(post(4, "bo"), {
      type: "hint",
      hint: {
        op: "inbox",
        conversation_id: "c1",
        unread: 7,
        mentions: 1,
        read_seq: 2,
        pinned: true,
        muted: false,
      },
    });
    const { unread, mentions, read_seq, pinned } = state.conversations.c1;
    assert.deepEqual(
      { unread, mentions, read_seq, pinned },
      { unread: 7, mentions: 1, read_seq: 3, pinned: true },
    );
  });

  it("does not go back to an older answer", () => {
    const state = run(post(4, "bo"), { type: "inbox_loaded", rows: [GROUP] });
    assert.equal(state.conversations.c1.head, 4);
    assert.equal(state.conversations.c1.unread, 1);
  });

  it("stands in order of activity, pinned first", () => {
    const other = { ...GROUP, conversation_id: "c2", name: "Other", last_message: row(1) };
    const third = { ...GROUP, conversation_id: "c3", pinned: true };
    const state = run({ type: "inbox_loaded", rows: [other, third] }, post(4, "bo"));
    assert.deepEqual(
      inOrder(state.conversations).map((one) => one.conversation_id),
      ["c3", "c1", "c2"],
    );
  });

  it("keeps a conversation without messages beside its neighbours", () => {
    const rows = [
      { ...GROUP, conversation_id: "a", last_message: row(1) },
      { ...GROUP, conversation_id: "z" },
      { ...GROUP, conversation_id: "b", last_message: row(1, { at: "2026-01-01T00:00:00.000Z" }) },
    ];
    const state = [
      { type: "signed_in", me: { user_id: "ana" } },
      { type: "inbox_loaded", rows },
    ].reduce(reduce, INITIAL);
    assert.deepEqual(
      inOrder(state.conversations).map((one) => one.conversation_id),
      ["a", "z", "b"],
    );
    const met = reduce(state, {
      type: "inbox_loaded",
      rows: [{ ...GROUP, conversation_id: "n" }],
      active_at: "2026-06-01T00:00:00.000Z",
    });
    assert.equal(inOrder(met.conversations)[0].conversation_id, "n");
  });

  it("marks what one has left, and takes it back on coming in again", () => {
    const gone = run(event(4, "member_removed", { user_id: "ana" }));
    assert.equal(gone.conversations.c1.left, true);
    assert.equal(
      reduce(gone, event(9, "member_added", { user_id: "ana", role: "member" })).conversations.c1.left,
      false,
    );
  });

  it("names direct conversations by the other side", () => {
    assert.equal(titleOf({ kind: "direct", peer: { user_id: "bo", name: "Bo" } }, "ana"), "Bo");
    assert.equal(titleOf({ kind: "direct", peer: { user_id: "ana", name: "Ana" } }, "ana"), "Notes to self");
  });

  it("takes settings and marks from one's own stream", () => {
    const own = (type, data) => ({
      type: "event",
      event: { conversation_id: "me", seq: 1, type, actor: "ana", at: "2026-03-01T10:00:00.000Z", data },
    });
    const state = run(
      own("conversation_settings_changed", { conversation_id: "c1", muted: true }),
      own("user_blocked", { user_id: "bo" }),
      own("read_marked", { conversation_id: "c1", read_seq: 9 }),
    );
    assert.equal(state.conversations.c1.muted, true);
    assert.equal(state.conversations.c1.read_seq, 9);
    assert.equal(state.blocks.bo, true);
    assert.equal(state.conversations.me, undefined);
  });
});

describe("members", () => {
  const loaded = [
    {
      type: "members_loaded",
      id: "c1",
      rows: [
        { user_id: "ana", name: "Ana", role: "owner" },
        { user_id: "bo", name: "Bo", role: "member" },
      ],
      complete: true,
    },
    { type: "group_loaded", id: "c1", group: { name: "Crew", member_count: 2, my_role: "owner" } },
  ];

  it("come, change and go", () => {
    const state = run(
      ...loaded,
      event(4, "member_added", { user_id: "chen", role: "member", via: "added" }),
      event(5, "role_changed", { user_id: "chen", role: "admin" }),
      event(6, "member_alias_changed", { user_id: "bo", alias: "B" }),
      event(7, "member_left", { user_id: "bo" }, "bo"),
    );
    assert.deepEqual(Object.keys(state.members.c1.people), ["ana", "chen"]);
    assert.equal(state.members.c1.people.chen.role, "admin");
    assert.equal(state.groups.c1.member_count, 2);
  });

  it("change places when the group is handed over", () => {
    const state = run(...loaded, event(4, "owner_transferred", { from: "ana", to: "bo" }, "ana"));
    assert.equal(state.members.c1.people.ana.role, "admin");
    assert.equal(state.members.c1.people.bo.role, "owner");
    assert.equal(state.groups.c1.my_role, "admin");
  });

  it("see the group renamed, muted and dissolved", () => {
    const state = run(
      ...loaded,
      event(4, "group_changed", { changes: { name: "Crew 2", announcement: "Hello" } }),
      event(5, "group_muted", {}),
      event(6, "group_dissolved", {}),
    );
    assert.equal(state.conversations.c1.name, "Crew 2");
    assert.deepEqual(
      [state.groups.c1.announcement, state.groups.c1.muted, state.groups.c1.dissolved],
      ["Hello", true, true],
    );
    assert.equal(state.conversations.c1.dissolved, true);
  });
});

describe("hints", () => {
  const typing = (on, now = 1000) => ({
    type: "hint",
    hint: { op: "typing", conversation_id: "c1", user_id: "bo", on },
    now,
  });

  it("of typing lapse, end, and end with the message", () => {
    assert.deepEqual(run(typing(true)).typing.c1, { bo: 1000 + TYPING_MS });
    assert.deepEqual(run(typing(true), { type: "lapse", now: 1000 + TYPING_MS }).typing.c1, {});
    assert.deepEqual(run(typing(true), typing(false)).typing.c1, {});
    assert.deepEqual(run(typing(true), post(4, "bo")).typing.c1, {});
  });

  it("change nothing when nothing lapses", () => {
    const state = run(typing(true));
    assert.equal(reduce(state, { type: "lapse", now: 1001 }), state);
  });

  it("of reading only rise", () => {
    const receipt = (read) => ({
      type: "hint",
      hint: { op: "receipt", conversation_id: "c1", user_id: "bo", read },
    });
    assert.deepEqual(run(receipt(5), receipt(3)).receipts.c1, { bo: 5 });
  });

  it("of an unknown kind are passed over", () => {
    const state = run();
    assert.equal(reduce(state, { type: "hint", hint: { op: "weather" } }), state);
  });
});

describe("the outbox", () => {
  const entry = {
    client_msg_id: "k4",
    conversation_id: "c1",
    content: { kind: "text", text: "hi" },
    at: "2026-03-01T10:00:00.000Z",
  };

  it("gives a message up when its event comes, or a page with it", () => {
    assert.deepEqual(run({ type: "sending", entry }, post(4, "ana")).outbox, []);
    assert.deepEqual(
      run({ type: "sending", entry }, page([row(4, { actor: "ana", client_msg_id: "k4" })])).outbox,
      [],
    );
  });

  it("does not take somebody else's message of the same id for its own", () => {
    assert.equal(run({ type: "sending", entry }, post(4, "bo")).outbox.length, 1);
  });
});

describe("the page", () => {
  it("drops a conversation's window on restart, and everything with another log", () => {
    assert.equal(run(page([row(2)]), { type: "restart", conversation_id: "c1" }).timelines.c1, undefined);
    assert.deepEqual(run(page([row(2)]), { type: "log_changed" }).conversations, {});
  });

  it("remembers where reading stopped when a conversation is opened", () => {
    assert.equal(run(post(4, "bo"), { type: "opened", id: "c1" }).unreadFrom.c1, 3);
    assert.equal(run({ type: "opened", id: "c1" }).unreadFrom.c1, undefined);
  });

  it("forgets everything on logging out", () => {
    assert.equal(run(page([row(2)]), { type: "signed_out" }), INITIAL);
  });

  it("shows only so many toasts", () => {
    const toasts = Array.from({ length: 9 }, (_, index) => ({
      type: "toast",
      toast: { id: String(index), text: "t" },
    }));
    assert.equal(run(...toasts).toasts.length, TOASTS_MAX);
  });

  it("keeps what comes while a page is fetched that was cut before it", () => {
    const fetched = { place: "replace", rows: [], notices: [], has_older: false, has_newer: false };
    const state = run(
      { type: "page_loading", id: "c1" },
      post(7, "bo", "late"),
      { type: "page_loaded", id: "c1", page: fetched },
    );
    assert.deepEqual(state.timelines.c1.order, [7]);
    assert.deepEqual(state.timelines.c1.meanwhile, []);
  });

  it("refuses a happening that it does not know", () => {
    assert.throws(() => reduce(INITIAL, { type: "nonsense" }));
  });

  it("tells its listeners of changes only", () => {
    const store = createStore();
    let told = 0;
    const stop = store.subscribe(() => {
      told += 1;
    });
    store.dispatch({ type: "lapse", now: 1 });
    store.dispatch({ type: "panel", panel: "details" });
    stop();
    store.dispatch({ type: "panel", panel: "details" });
    assert.equal(told, 1);
  });
});
